"""Prove that a data set is whole and that no two of its splits share ground."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.landcover.data.ground import find_leaks
from projects.landcover.data.layouts import Sample
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest
from projects.landcover.data.patches import Patch, examine
from projects.landcover.data.prepare import Options, Report, examine_all, parallel
from projects.landcover.taxonomy import LabelReader, get_remap, get_taxonomy


def check_prepared(root: str | Path) -> Report:
    """Check a prepared data set against its manifest, file by file, and its splits against each other.

    Files must be there, readable, unchanged (SHA-256), of the size, with the labels and the number of pixels a class
    that the manifest says. Footprints are read from the images, not from the manifest.

    Returns:
        A report; it is clean when `problems` and `leaks` are empty.

    Raises:
        UserError: no manifest, or one that cannot be read.
    """
    root = Path(root)
    manifest = read_manifest(root)
    taxonomy = get_taxonomy(manifest['taxonomy'])
    labels = LabelReader(taxonomy, get_remap(taxonomy, taxonomy))
    report = Report(taxonomy, rule=manifest['split'].get('rule'))
    items = manifest['items']
    for result in parallel(lambda item: _check_item(root, item, labels), items, 'check'):
        if isinstance(result, Patch):
            report.patches.append(result)
        else:
            report.problems += result
    known = {name for item in items for name in (item['image'], item['mask'], *item.get('sidecars', {}))}
    for folder in ('images', 'masks'):
        for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
            if f'{folder}/{path.name}' not in known:
                report.problems.append(f'{path}: not in {MANIFEST_NAME}')
    hash_of = {item['id']: item['image_sha256'] for item in items}
    report.leaks = find_leaks(report.patches, [hash_of[patch.id] for patch in report.patches])
    if report.rule == 'groups':
        report.problems += _torn_groups(report.patches)
    return report


def check_source(source: str | Path, options: Options) -> Report:
    """Check every pair of a data set as published and, where it has splits, that they share no ground.

    Raises:
        UserError: nothing there.
    """
    source = Path(source)
    report, _ = examine_all(source, options)
    report.patches = [patch.put(patch.sample.split) if patch.sample.split else patch for patch in report.patches]
    placed = [patch for patch in report.patches if patch.split is not None]
    if placed:
        report.rule = 'official'
        hashes = parallel(sha256_of, [patch.sample.image for patch in placed], 'hash')
        report.leaks = find_leaks(placed, hashes)
    else:
        report.warnings.append('the data set has no splits yet: nothing to compare')
    return report


def _check_item(root: Path, item: dict[str, Any], labels: LabelReader) -> Patch | list[str]:
    image, mask = root / item['image'], root / item['mask']
    hashes = {image: item['image_sha256'], mask: item['mask_sha256']}
    hashes |= {root / name: digest for name, digest in item.get('sidecars', {}).items()}
    absent = [f'{path}: listed in {MANIFEST_NAME} but missing' for path in hashes if not path.is_file()]
    if absent:
        return absent
    changed = [
        f'{path}: changed since it was prepared: SHA-256 {digest[:12]}…, {MANIFEST_NAME} says {expected[:12]}…'
        for path, expected in hashes.items()
        if (digest := sha256_of(path)) != expected
    ]
    if changed:
        return changed
    try:
        sample = Sample(item['id'], image, mask, item['group'], item['split'])
        (patch,) = examine(sample, labels, look_at_image=False)
    except UserError as error:
        return [str(error)]
    found = {'width': patch.width, 'height': patch.height, 'pixels': list(patch.pixels)}
    wrong = [
        f'{image}: {key}: {MANIFEST_NAME} says {item[key]}, found {value}'
        for key, value in found.items()
        if item[key] != value
    ]
    for key, value in (('bounds', patch.bounds), ('crs', patch.crs)):
        if item.get(key) is not None and value is None:
            wrong.append(f'{image}: {key}: {MANIFEST_NAME} says {item[key]}, the file has none: its place is not known')
    if patch.bounds is not None and item.get('bounds') is not None and not np.allclose(patch.bounds, item['bounds']):
        wrong.append(f'{image}: bounds: {MANIFEST_NAME} says {item["bounds"]}, found {patch.bounds}')
    if wrong:
        return wrong
    window = item.get('window')
    if window is not None and patch.corners is None:
        # Tiles cut from one picture know their place only through the manifest.
        source = Sample(item['id'], Path(item['source']), mask, item['group'], item['split'])
        patch = replace(patch, sample=source, window=tuple(window))
    return patch.put(item['split'])


def _torn_groups(patches: list[Patch]) -> list[str]:
    splits: dict[str, set[str]] = {}
    for patch in patches:
        splits.setdefault(patch.sample.group, set()).add(patch.split)
    return [
        f'group {group!r} is in several splits ({", ".join(sorted(found))}), though the data were split by groups'
        for group, found in sorted(splits.items())
        if len(found) > 1
    ]
