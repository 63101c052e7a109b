"""Put prepared data sets together into one, in the taxonomy of the target: what pretraining on more data is run on.

The seed's `create_combined_dataset.py` links target and OpenEarthMap images under the prefixes `target_` and `oem_`.
Here every input is checked whole first, labels go through the hard map of a remap that was asked for, splits must not
share ground, and the result is a prepared data set like any other.
"""

import os
import re
import shutil
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import sha256_of, write_json
from projects.evaluation.tables import text_table
from projects.geo.raster import read_mask, write_mask
from projects.landcover.data.changes import check_settled
from projects.landcover.data.check import check_prepared
from projects.landcover.data.ground import Leak, find_leaks
from projects.landcover.data.layouts import SPLITS
from projects.landcover.data.manifest import MANIFEST_NAME, VERSION, read_manifest
from projects.landcover.data.patches import Patch
from projects.landcover.data.prepare import IGNORE_COLOUR, BadFiles, building, check_target, parallel, remove_abandoned
from projects.landcover.data.sidecars import carry_sidecars
from projects.landcover.taxonomy import Remap, Taxonomy, get_remap, get_taxonomy

COMBINED = 'combined'  # key of the manifest
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9-]*')
SOURCE_SPLITS = ('train', 'keep')


@dataclass(frozen=True)
class Part:
    """One data set that goes into the combination.

    Args:
        name: Prefix of its sample ids.
        root: Its root folder.
        remap: Map from its taxonomy to that of the result.
        items: Items of its manifest that are taken, as they stand there.
        manifest_sha256: Hash of its manifest.
        corrected: Number of its labels that were replaced (`tools/landcover/correct.py`).
        patches: What is known of each image taken, by its id there.
    """

    name: str
    root: Path
    remap: Remap
    items: list[dict[str, Any]] = field(repr=False)
    manifest_sha256: str = ''
    corrected: int = 0
    patches: dict[str, Patch] = field(default_factory=dict, repr=False)

    @property
    def is_identity(self) -> bool:
        """Whether its masks stay as they are, to the byte."""
        return self.remap.source.hash == self.remap.target.hash and np.array_equal(
            self.remap.hard, np.arange(len(self.remap.hard)))

    def remapped(self, item: dict[str, Any]) -> list[int]:
        """Return an item's pixels by class of the result."""
        pixels = [0] * len(self.remap.target.classes)
        for old, new in enumerate(self.remap.hard):
            if new != self.remap.target.ignore_index:
                pixels[new] += item['pixels'][old]
        return pixels


@dataclass
class Combination:
    """What was, or would be, combined.

    Args:
        taxonomy: Taxonomy of the result.
        parts: The data sets, the target first.
        leaks: Pairs of images in different splits that share ground.
    """

    taxonomy: Taxonomy
    parts: list[Part]
    leaks: list[Leak] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Number of images of the result."""
        return sum(len(part.items) for part in self.parts)

    def pixels(self, part: Part) -> np.ndarray:
        """Return a part's pixels by class of the result, (classes,) int64."""
        return np.sum([part.remapped(item) for item in part.items], axis=0, dtype=np.int64)

    def lines(self) -> list[str]:
        """Return the shares: images and share of the images a source, pixels a class and source, images a split."""
        header = ['', *(part.name for part in self.parts), 'all']
        counts = [len(part.items) for part in self.parts]
        rows = [['images', *map(str, counts), str(self.images)],
                ['share of the images', *(f'{count / self.images:.1%}' for count in counts), '100.0%'],
                ['corrected labels', *(str(part.corrected) for part in self.parts),
                 str(sum(part.corrected for part in self.parts))]]
        for split in SPLITS:
            found = [sum(item['split'] == split for item in part.items) for part in self.parts]
            rows.append([split, *map(str, found), str(sum(found))])
        pixels = np.array([self.pixels(part) for part in self.parts])
        for index, name in enumerate(self.taxonomy.classes):
            column = pixels[:, index]
            cells = [f'{count:,} ({count / max(1, total):.1%})' for count, total in zip(column, pixels.sum(axis=1))]
            total = int(column.sum())
            rows.append([f'{name}, px', *cells, f'{total:,} ({total / max(1, int(pixels.sum())):.1%})'])
        return text_table(header, rows).splitlines()


def combine(
    roots: Sequence[str | Path],
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    taxonomy: str | Mapping[str, Any] | None = None,
    remaps: Mapping[str, str | Mapping[str, Any]] | None = None,
    copy: bool = False,
    source_splits: str = 'train',
    allow_leaks: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Combination:
    """Combine prepared data sets into one.

    Sample ids become ``<name>_<id>``. Images (and their sidecars) are relative symbolic links, so the folders may move
    together; masks are files of their own, so that correcting labels here or there never touches the other. The target
    keeps its splits. All is built in a hidden folder beside `out` and renamed at the end.

    Args:
        roots: Root folders, the target first, then the sources.
        out: Folder to write.
        names: One name a root. Default: 'target', and the names of the sources' folders.
        taxonomy: Taxonomy of the result: a name or a dict. Default: the target's.
        remaps: {name: variant of the map to it, or a dict of class names}, see `taxonomy.get_remap`.
        copy: Copy the images instead of linking to them.
        source_splits: 'train': of a source only its training split is taken; 'keep': all its splits are.
        allow_leaks: Write although splits share ground; the number is kept in the manifest.
        overwrite: Replace a prepared data set at `out`.
        dry_run: Do everything but write.

    Raises:
        BadFiles: an input is not whole, or images of different splits share ground.
        UserError: wrong names, no map between taxonomies, ids that meet, or `out` is in the way.
    """
    roots, out = [Path(root) for root in roots], Path(out)
    if len(roots) < 2:
        raise UserError('combine: expected a target and at least one source')
    if source_splits not in SOURCE_SPLITS:
        raise UserError(f'--source-splits: expected one of {SOURCE_SPLITS}, found {source_splits!r}')
    names = _names(roots, names)
    for name in remaps or {}:
        if name not in names:
            raise UserError(f'--remap {name}: no such data set, expected one of {names}')
    for root in roots:
        check_target(root, out, overwrite)
        check_settled(root)
    goal = get_taxonomy(taxonomy if taxonomy is not None else read_manifest(roots[0])['taxonomy'])
    taken = SPLITS if source_splits == 'keep' else ('train',)
    parts = [
        _read(name, root, goal, (remaps or {}).get(name), SPLITS if index == 0 else taken)
        for index, (name, root) in enumerate(zip(names, roots))
    ]
    ids = [f'{part.name}_{item["id"]}' for part in parts for item in part.items]
    twice = next((a for a, b in zip(sorted(ids), sorted(ids)[1:]) if a == b), None)
    if twice is not None:
        raise UserError(f'two images would be called {twice!r}: choose other --names')
    result = Combination(goal, parts)
    result.leaks = find_leaks(
        [part.patches[item['id']] for part in parts for item in part.items],
        [item['image_sha256'] for part in parts for item in part.items],
    )
    if result.leaks and not allow_leaks:
        raise BadFiles(
            f'{len(result.leaks)} pairs of images in different splits share ground, nothing was written; first: '
            f'{result.leaks[0]} (--allow-leaks writes all the same)', [str(leak) for leak in result.leaks])
    if not dry_run:
        with building(out, overwrite) as folder:
            _write(folder, out, result, copy)
    return result


def undo_combine(out: str | Path, dry_run: bool = False) -> int:
    """Remove a combined data set, if it is still exactly what :func:`combine` made; return its number of images.

    Raises:
        UserError: it is no combined data set, or holds something else or something changed: the message names it.
    """
    out = Path(out)
    check_settled(out)
    manifest = read_manifest(out)
    if COMBINED not in manifest:
        raise UserError(f'{out}: not made by combine.py, it is not removed')
    for key in ('filtered', 'corrections'):
        if key in manifest:
            raise UserError(f'{out / MANIFEST_NAME}: {key}: the data set was changed since: undo that first')
    expected = {MANIFEST_NAME: None}
    for item in manifest['items']:
        expected |= {item['image']: item['image_sha256'], item['mask']: item['mask_sha256'], **item.get('sidecars', {})}
    linked = not manifest[COMBINED]['copied']
    for path in sorted(out.rglob('*')):
        name = path.relative_to(out).as_posix()
        if path.is_dir() and not path.is_symlink():
            if name not in ('images', 'masks'):
                raise UserError(f'{path}: not made by combine.py: nothing is removed')
        elif name not in expected:
            raise UserError(f'{path}: not made by combine.py: nothing is removed')
        elif linked and name.startswith('images/'):
            if not path.is_symlink():
                raise UserError(f'{path}: was a link and is a file now: nothing is removed')
        elif expected[name] is not None and sha256_of(path) != expected[name]:
            raise UserError(f'{path}: changed since it was made: nothing is removed')
    if not dry_run:
        out = out.absolute()
        remove_abandoned(out, socket.gethostname())
        # Renamed first: what a killed removal leaves is hidden, and the next call removes it.
        folder = out.with_name(f'.{out.name}.partial-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}')
        os.rename(out, folder)
        shutil.rmtree(folder)
    return len(manifest['items'])


def _names(roots: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    names = ['target', *(root.resolve().name for root in roots[1:])] if names is None else list(names)
    if len(names) != len(roots):
        raise UserError(f'--names: expected {len(roots)}, one a data set, found {len(names)}')
    for name in names:
        if not NAME.fullmatch(name):
            raise UserError(f'--names: expected letters, digits and hyphens, found {name!r}')
    if len(set(names)) != len(names):
        raise UserError(f'--names: expected different names, found {names}')
    return names


def _read(name: str, root: Path, goal: Taxonomy, variant: str | Mapping[str, Any] | None,
          splits: Sequence[str]) -> Part:
    """Check a data set whole and say what is taken of it."""
    manifest = read_manifest(root)
    remap = get_remap(get_taxonomy(manifest['taxonomy']), goal, variant)
    digest = sha256_of(root / MANIFEST_NAME)
    report = check_prepared(root)
    if report.problems:
        raise BadFiles(f'{root}: {len(report.problems)} problems, nothing was written; first: {report.problems[0]}',
                       report.problems)
    items = [item for item in manifest['items'] if item['split'] in splits]
    if not items:
        raise UserError(f'{root}: no images in split {", ".join(splits)}')
    wanted = {item['id']: item for item in items}
    patches = {}
    for patch in report.patches:
        if patch.id in wanted:
            sample = replace(patch.sample, id=f'{name}_{patch.id}', group=f'{name}_{patch.sample.group}')
            if patch.window is not None:  # a tile is compared by the name of the picture it was cut from
                sample = replace(sample, image=Path(_source(name, wanted[patch.id])))
            patches[patch.id] = replace(patch, id=sample.id, sample=sample)
    corrected = manifest.get('corrections', {}).get('replaced', 0)
    return Part(name, root, remap, items, digest, corrected, patches)


def _source(name: str, item: dict[str, Any]) -> str:
    return f'{name}/{item.get("source", item["image"])}'


def _write(folder: Path, out: Path, combination: Combination, copy: bool) -> None:
    """Write images, masks and manifest into an empty folder that will be called `out`."""
    (folder / 'images').mkdir()
    (folder / 'masks').mkdir()
    place = out.absolute().parent.resolve() / out.name / 'images'
    palette = list(combination.taxonomy.palette)
    palette += [IGNORE_COLOUR] * (256 - len(palette))

    def link(source: Path, target: Path) -> None:
        os.symlink(os.path.relpath(source.absolute().parent.resolve() / source.name, place), target)

    carry = shutil.copyfile if copy else link

    def write_item(task: tuple[Part, dict[str, Any]]) -> dict[str, Any]:
        part, item = task
        name = f'{part.name}_{item["id"]}'
        source = part.root / item['image']
        image, label = folder / 'images' / f'{name}{source.suffix}', folder / 'masks' / f'{name}.png'
        carry(source, image)
        if part.is_identity:
            shutil.copyfile(part.root / item['mask'], label)
        else:
            table = part.remap.class_table()
            write_mask(label, table.astype(np.uint8)[read_mask(part.root / item['mask'])], palette)
        sidecars = carry_sidecars(source, image, carry) if item.get('sidecars') else []
        return dict(
            item,
            id=name,
            image=f'images/{image.name}',
            mask=f'masks/{label.name}',
            mask_sha256=sha256_of(label),
            sidecars={f'images/{path.name}': sha256_of(path) for path in sidecars},
            group=f'{part.name}_{item["group"]}',
            pixels=part.remapped(item),
            source=_source(part.name, item),
        )

    tasks = [(part, item) for part in combination.parts for item in part.items]
    items = sorted(parallel(write_item, tasks, 'write'), key=lambda item: item['id'])
    write_json(
        folder / MANIFEST_NAME,
        {
            'version': VERSION,
            'taxonomy': combination.taxonomy.metainfo,
            'source': {
                'root': ' + '.join(part.root.resolve().name for part in combination.parts),
                'layout': 'prepared',
            },
            'split': {
                'rule': COMBINED,
                'counts': {split: sum(item['split'] == split for item in items) for split in SPLITS},
                'leaks': len(combination.leaks),
            },
            COMBINED: {
                'copied': copy,
                'sources': {
                    part.name: {
                        'images': len(part.items),
                        'root': str(part.root),
                        'manifest_sha256': part.manifest_sha256,
                        'taxonomy': part.remap.source.name,
                        'remap': [int(value) for value in part.remap.hard],
                        'corrected': part.corrected,
                        'splits': {split: sum(i['split'] == split for i in part.items) for split in SPLITS},
                        'pixels': combination.pixels(part).tolist(),
                    }
                    for part in combination.parts
                },
            },
            'items': items,
        },
    )
