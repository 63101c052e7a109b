"""Take the images out of a split in which one class fills too much of the ground, so that they can come back.

The seed removes every training image of the combined data with more than 50 % settlement (259 of 3,764). Here the
images, their masks and sidecars are moved to ``ROOT/filtered/<n>/``, beside a record, and leave the manifest.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.progress import progress
from projects.landcover.data.changes import Change, changing, check_settled, moved_link, write_manifest
from projects.landcover.data.layouts import SPLITS
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest
from projects.landcover.taxonomy import get_taxonomy, suggest

FOLDER = 'filtered'
RECORD = 'record.json'
FILTERED = 'filtered'  # key of the manifest


@dataclass(frozen=True)
class Shares:
    """How much of each image one class fills, and which images are above a limit.

    Args:
        name: The class.
        above: The limit, 0..1; an image of exactly this share stays.
        splits: The splits that were looked at.
        of: {sample id: share}: pixels of the class among the *labelled* pixels of the image, 0 where none is labelled.
        unlabelled: Number of images without a labelled pixel.
    """

    name: str
    above: float
    splits: tuple[str, ...]
    of: dict[str, float] = field(repr=False)
    unlabelled: int = 0

    @property
    def removed(self) -> list[str]:
        """Ids of the images above the limit, the largest share first."""
        return sorted((name for name, share in self.of.items() if share > self.above),
                      key=lambda name: (-self.of[name], name))

    def lines(self, worst: int = 10) -> list[str]:
        """Return what the seed's script prints: mean, median, largest share, counts, and the worst images."""
        shares, removed, total = np.array(list(self.of.values())), self.removed, len(self.of)
        lines = [
            f'share of {self.name!r} among the labelled pixels of {total} images ({", ".join(self.splits)}):',
            f'mean       {shares.mean():.2%}',
            f'median     {np.median(shares):.2%}',
            f'max        {shares.max():.2%} ({max(self.of, key=lambda name: (self.of[name], name))})',
            f'removed    {len(removed)} images above {self.above:.0%} ({len(removed) / total:.1%})',
            f'remaining  {total - len(removed)} images',
        ]
        if self.unlabelled:
            lines.append(f'           {self.unlabelled} of them without a labelled pixel (they count as 0 %)')
        if removed:
            lines.append(f'worst of the removed ({min(worst, len(removed))} of {len(removed)}):')
            lines += [f'  {rank}. {name} - {self.of[name]:.1%}' for rank, name in enumerate(removed[:worst], start=1)]
        return lines


def shares_of(manifest: dict[str, Any], class_name: str, above: float, splits: Sequence[str] = ('train',)) -> Shares:
    """Read the shares of a class off a manifest.

    Raises:
        UserError: an unknown class or split, a limit outside 0..1, the test split, or no images.
    """
    taxonomy = get_taxonomy(manifest['taxonomy'])
    if class_name not in taxonomy.classes:
        raise UserError(f'--class: unknown class {class_name!r}{suggest(class_name, taxonomy.classes)}')
    if not 0 <= above < 1:
        raise UserError(f'--above: expected a share from 0 to below 1, found {above:g}')
    for split in splits:
        if split == 'test':
            raise UserError('--split test: a test split is never filtered: scores on it would no longer compare')
        if split not in SPLITS:
            raise UserError(f'--split: unknown split {split!r}{suggest(split, SPLITS[:2])}')
    index = taxonomy.classes.index(class_name)
    items = [item for item in manifest['items'] if item['split'] in splits]
    if not items:
        raise UserError(f'{MANIFEST_NAME}: no images in split {", ".join(splits)}')
    of = {item['id']: item['pixels'][index] / max(1, sum(item['pixels'])) for item in items}
    empty = sum(not any(item['pixels']) for item in items)
    return Shares(class_name, above, tuple(splits), of, empty)


def filter_class(root: str | Path, class_name: str, above: float, splits: Sequence[str] = ('train',),
                 dry_run: bool = False) -> Shares:
    """Move the images with more than a share of one class out of a prepared data set.

    They go to ``ROOT/filtered/<n>/`` with their masks and sidecars, a record (what was asked, when, and the items as
    they stood in the manifest) and the manifest's bytes from before. The manifest's list ``filtered`` gets the record.
    A kill at any moment leaves the data set as it was, or the next call finishes the work.

    Args:
        root: Root folder of a prepared data set.
        class_name: Class of its taxonomy.
        above: Share of the labelled pixels; images above it go.
        splits: 'train', 'val' or both.
        dry_run: Change nothing.

    Raises:
        UserError: see :func:`shares_of`; a file to be moved has changed since it was prepared, or no image would be
            left in a split.
    """
    root = Path(root)
    if dry_run:
        check_settled(root)
        return _plan(root, read_manifest(root), class_name, above, splits)[0]
    with changing(root) as change:
        manifest = read_manifest(root)
        shares, gone = _plan(root, manifest, class_name, above, splits)
        if gone:
            _remove(change, manifest, shares, gone)
            change.commit()
    return shares


def undo_filter(root: str | Path, dry_run: bool = False) -> list[str]:
    """Put the images of the last filter back, to the byte; return their ids.

    The manifest gets its bytes of before, too, unless something else has changed in it since (a correction): then
    everything but the filter stays as it is.

    Raises:
        UserError: nothing was filtered, a moved file is missing or changed, or its old place is taken.
    """
    root = Path(root)
    if dry_run:
        check_settled(root)
        manifest = read_manifest(root)
        return [item['id'] for item in _last(root, manifest)['items']]
    with changing(root) as change:
        manifest = read_manifest(root)
        record = _last(root, manifest)
        folder = f'{FOLDER}/{record["number"]}'
        for item in progress(record['items'], 'check', unit='image'):
            for path, digest in files_of(item).items():
                if (root / path).exists() or (root / path).is_symlink():
                    raise UserError(f'{root / path}: in the way of what was filtered')
                _check_hash(root / folder / path, digest)
                change.move(f'{folder}/{path}', path, moved_link(root, f'{folder}/{path}', path))
        restored = dict(manifest, items=sorted([*manifest['items'], *record['items']], key=lambda item: item['id']))
        restored[FILTERED] = manifest[FILTERED][:-1]
        if not restored[FILTERED]:
            del restored[FILTERED]
        _recount(restored)
        write_manifest(change, restored, f'{folder}/{MANIFEST_NAME}')
        change.remove(f'{folder}/{RECORD}')
        change.remove(f'{folder}/{MANIFEST_NAME}')
        for name in (f'{folder}/images', f'{folder}/masks', folder, FOLDER):
            change.remove_folder(name)
        change.commit()
    return [item['id'] for item in record['items']]


def files_of(item: dict[str, Any]) -> dict[str, str]:
    """Return {path: SHA-256} of the files of a manifest's item: image, mask, sidecars."""
    return {item['image']: item['image_sha256'], item['mask']: item['mask_sha256'], **item.get('sidecars', {})}


def _plan(root: Path, manifest: dict[str, Any], class_name: str, above: float,
          splits: Sequence[str]) -> tuple[Shares, list[dict[str, Any]]]:
    shares = shares_of(manifest, class_name, above, splits)
    removed = set(shares.removed)
    gone = [item for item in manifest['items'] if item['id'] in removed]
    for split in splits:
        members = [item['id'] for item in manifest['items'] if item['split'] == split]
        if members and removed.issuperset(members):
            raise UserError(f'{root}: --above {above:g}: no image would be left in split {split!r}')
    for item in progress(gone, 'check', unit='image'):
        for path, digest in files_of(item).items():
            _check_hash(root / path, digest)
    return shares, gone


def _remove(change: Change, manifest: dict[str, Any], shares: Shares, gone: list[dict[str, Any]]) -> None:
    root = change.root
    numbers = [record['number'] for record in manifest.get(FILTERED, [])]
    number = max(numbers, default=0) + 1
    folder = f'{FOLDER}/{number}'
    if (root / folder).exists():
        raise UserError(f'{root / folder}: in the way: {MANIFEST_NAME} does not know it')
    record = {
        'number': number,
        'class': shares.name,
        'above': shares.above,
        'splits': list(shares.splits),
        'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        'images': len(shares.of),
        'shares': {item['id']: shares.of[item['id']] for item in gone},
        'items': gone,
    }
    kept = (root / MANIFEST_NAME).read_bytes()
    names = {item['id'] for item in gone}
    reduced = dict(manifest, items=[item for item in manifest['items'] if item['id'] not in names])
    reduced[FILTERED] = [*manifest.get(FILTERED, []), record]
    _recount(reduced)
    change.write(f'{folder}/{MANIFEST_NAME}', kept)
    change.write_json(f'{folder}/{RECORD}', record)
    change.write_json(MANIFEST_NAME, reduced)  # before the files go: what it lists is there at any moment
    for item in gone:
        for path in files_of(item):
            change.move(path, f'{folder}/{path}', moved_link(root, path, f'{folder}/{path}'))


def _last(root: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    if not manifest.get(FILTERED):
        raise UserError(f'{root}: nothing was filtered, nothing to undo')
    return manifest[FILTERED][-1]


def _recount(manifest: dict[str, Any]) -> None:
    """Count the images of the splits anew, where the manifest counts them."""
    if 'counts' in manifest['split']:
        counts = {split: sum(item['split'] == split for item in manifest['items']) for split in SPLITS}
        manifest['split'] = dict(manifest['split'], counts=counts)


def _check_hash(path: Path, digest: str) -> None:
    if not path.is_file():
        raise UserError(f'{path}: listed in {MANIFEST_NAME} but missing')
    found = sha256_of(path)
    if found != digest:
        raise UserError(f'{path}: changed: SHA-256 {found[:12]}…, {MANIFEST_NAME} says {digest[:12]}…; '
                        'tools/landcover/prepare.py --check lists all such files')
