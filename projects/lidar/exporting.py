"""Patches as files: ``.npz`` as the seed's scripts read them, ``.laz`` for every other program, links for a merge.

A store holds every point once; what is written here is a copy, for readers that know nothing of stores. Under the
output, each split (where the store has splits) has

    patches_50m/TILE_0012.npz   keys xyz, features, labels and no other; the first points in farthest-point order
    patches_50m/TILE_0012.laz   absolute positions, the tile's dimensions, label and features as extra dimensions
    patches_multiscale/multiscale_50m_000000.npz   links in the order of a merge manifest
    export.json                 names of features and classes; box, centre and size of every patch

An export is repeatable: a second run writes what is missing and what belongs to a tile that was prepared anew.
"""

import functools
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import atomic_path, check_output_folder, remove_leftovers, write_json
from projects.engine.progress import progress
from projects.geo.executors import Executor, SerialExecutor
from projects.geo.point_clouds import write_points
from projects.lidar.classes import COARSE, IGNORE, LABEL_TO_COARSE, LABELS, LOD2, LOD3_TO_LOD2
from projects.lidar.features import FEATURE_NAMES
from projects.lidar.merge import Merge
from projects.lidar.store import Patch, PatchRef, Store, Tile

FORMATS = ('npz', 'laz')
LABEL_SETS = ('lod3', 'lod2', 'coarse', 'asprs')
RECORD = 'export.json'
MERGED = 'patches_multiscale'
_FORMAT = 'terrace-lidar-export-2'
# What files take, bytes a point: .laz as measured on dense tiles, and the share that deflated .npz files are of others.
LAZ_BYTES, DEFLATED = 28, 0.35


@dataclass(frozen=True)
class ExportOptions:
    """How patches are written.

    Args:
        formats: Of :data:`FORMATS`.
        points: Points of a patch at most, from the head of its list (farthest-point order); None takes the scale's
            own (24,576 or 32,768), 0 all.
        labels: ``lod3``: 0..29, 30 for "some building part", 255 for none; ``lod2``: 0..14 and 255; ``coarse``: what
            ASPRS codes can tell, 0..5 and 255; ``asprs``: the codes of the file.
        compression: Deflate the ``.npz`` files (half the size); the seed's ``compression: null`` does not.
        absolute: ``xyz`` in the file's coordinates, float64, instead of metres from the patch's centre and mean
            ground, float32.
        overwrite: Replace an earlier export in the folder that was made otherwise, or of more patches.
    """

    formats: tuple[str, ...] = ('npz',)
    points: int | None = None
    labels: str = 'lod3'
    compression: bool = False
    absolute: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        strange = [name for name in self.formats if name not in FORMATS]
        if strange or not self.formats:
            raise UserError(f'--format: expected {" or ".join(FORMATS)}, found {",".join(self.formats) or "none"}')
        if self.labels not in LABEL_SETS:
            raise UserError(f'--labels: expected one of {", ".join(LABEL_SETS)}, found {self.labels}')
        if self.points is not None and self.points < 0:
            raise UserError(f'--points: expected a number of at least 0, found {self.points}')


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: Where.
        patches: Scale to number of patches.
        links: Links of the merge.
        bytes: Of all files.
        kept: Patches whose files were there already.
    """

    folder: Path
    patches: dict[str, int]
    links: int
    bytes: int
    kept: int


def labels_as(patch: Patch, tile: Tile, labels: str) -> np.ndarray:
    """Return the labels of a patch, ``(n,)`` uint8, in one of :data:`LABEL_SETS`."""
    if labels == 'lod3':
        return np.asarray(patch.label)
    if labels == 'asprs':
        return np.asarray(tile.array('classification')[patch.rows])
    return (LOD3_TO_LOD2 if labels == 'lod2' else LABEL_TO_COARSE)[patch.label]


def stem_of(ref: PatchRef) -> str:
    """Return the file name of a patch, without suffix."""
    return f'{ref.tile}_{ref.number:04d}'


def limit_of(store: Store, scale: str, options: ExportOptions) -> int | None:
    """Return how many points of a patch are written; None for all."""
    return (store.scales[scale]['points'] if options.points is None else options.points) or None


def bytes_of(points: float, options: ExportOptions) -> int:
    """Return about what the files of a patch take."""
    npz = (points * ((24 if options.absolute else 12) + 4 * len(FEATURE_NAMES) + 1)
           * (DEFLATED if options.compression else 1) + 700)  # what the archive itself takes
    laz = points * LAZ_BYTES + 2500  # header and coordinate system
    return round(sum({'npz': npz, 'laz': laz}[name] for name in options.formats))


def estimated_bytes(store: Store, refs: Sequence[PatchRef], options: ExportOptions) -> dict[str, int]:
    """Return about what the files take, by scale, as ``--dry-run`` tells it; see :func:`bytes_of`."""
    found: dict[str, int] = {}
    for ref in refs:
        count = _count(ref, limit_of(store, ref.scale, options))
        found[ref.scale] = found.get(ref.scale, 0) + bytes_of(count, options)
    return found


def export_patches(store: Store, refs: Sequence[PatchRef], out: str | Path, options: ExportOptions,
                   merge: Merge | None = None, executor: Executor | None = None) -> Exported:
    """Write the patches that are not there yet, and links in the order of a merge manifest.

    Args:
        store: Where they are.
        refs: Which; with ``merge`` the patches that it names (:func:`projects.lidar.merge.chosen_of`), in its order.
        out: Folder to write: new, empty, the store's own, or an earlier export. One that was made otherwise, or of
            more patches, needs ``options.overwrite``.
        options: How.
        merge: The manifest, recorded with the export.
        executor: Where tiles are exported; default: here, one after the other.

    Raises:
        UserError: There is nothing to write, or the folder holds something else.
    """
    out = Path(out)
    if not refs:
        raise UserError(f'{store.root}: expected patches to export, found none')
    check_output_folder(out)
    record: dict[str, Any] = dict(
        format=_FORMAT, features=list(FEATURE_NAMES), labels=options.labels,
        classes=list(_class_names(options.labels)), ignore=IGNORE, xyz='absolute' if options.absolute else 'centred',
        formats=list(options.formats), points=options.points, compressed=options.compression,
        merge=None if merge is None else dict(weights=merge.weights, seed=merge.seed, split=merge.split))
    files = {ref: str(_folder_of(ref) / stem_of(ref)) for ref in refs}
    planned = {f'{file}.{suffix}': ref.tile for ref, file in files.items() for suffix in options.formats}
    links = _links(refs, files, options) if merge is not None else {}
    record['sources'] = {name: store.tiles[name].record['sha256'] for name in sorted(set(planned.values()))}
    there = _make_room(out, store, record, planned, options.overwrite)
    # What is to be written comes first: after a kill, the next run knows what it may remove and what it may keep.
    write_json(out / RECORD, {**record, 'complete': False, 'files': [*planned, *links]})
    todo: dict[str, list[PatchRef]] = {}
    for ref, file in files.items():
        if not there.issuperset(f'{file}.{suffix}' for suffix in options.formats):
            todo.setdefault(ref.tile, []).append(ref)
    limits = {scale: limit_of(store, scale, options) for scale in store.scales}
    work = functools.partial(_export_tile, out=out.absolute(), limits=limits, options=options)
    items = [(Tile(store.tiles[name].path.absolute(), store.tiles[name].record), some) for name, some in todo.items()]
    failures = [result for _, result in progress(
        (executor or SerialExecutor()).run(work, items, list(todo)), 'exporting', len(items), 'tile')
        if isinstance(result, Exception)]
    if failures:
        raise failures[0]
    for link, target in links.items():
        _link(out / link, out / target)
    write_json(out / RECORD, {**record, 'complete': True, 'files': [*planned, *links], 'patches': [
        dict(file=file, **_place_of(store, ref, limits[ref.scale])) for ref, file in files.items()]})
    counts = {scale: sum(ref.scale == scale for ref in files) for scale in store.scales}
    return Exported(out, {scale: count for scale, count in counts.items() if count}, len(links),
                    sum((out / name).stat().st_size for name in planned), len(files) - sum(map(len, todo.values())))


def _export_tile(item: tuple[Tile, list[PatchRef]], out: Path, limits: dict[str, int | None],
                 options: ExportOptions) -> None:
    tile, refs = item
    for ref in refs:
        patch = tile.read_patch(ref.scale, ref.number, limits[ref.scale])
        for suffix in options.formats:
            (write_npz if suffix == 'npz' else write_laz)(out / _folder_of(ref) / f'{stem_of(ref)}.{suffix}', patch,
                                                          tile, options)


def _place_of(store: Store, ref: PatchRef, limit: int | None) -> dict[str, Any]:
    """Return what the record tells of a patch; its points need not be read for it."""
    patch = store.read(ref, 0)
    return dict(tile=ref.tile, scale=ref.scale, number=ref.number, split=ref.split, points=_count(ref, limit),
                of=ref.points, size=patch.size, centre=patch.centre.tolist(), box=patch.box.tolist(),
                density=patch.density)


def _count(ref: PatchRef, limit: int | None) -> int:
    return ref.points if limit is None else min(ref.points, limit)


def write_npz(path: Path, patch: Patch, tile: Tile, options: ExportOptions) -> None:
    """Write a patch with the seed's keys: ``xyz (n, 3)``, ``features (n, 21)`` float32, ``labels (n,)`` uint8."""
    xyz = tile.positions(patch.rows) if options.absolute else patch.xyz
    with atomic_path(path) as temporary:
        (np.savez_compressed if options.compression else np.savez)(
            temporary, xyz=xyz, features=patch.features, labels=labels_as(patch, tile, options.labels))


def write_laz(path: Path, patch: Patch, tile: Tile, options: ExportOptions) -> None:
    """Write a patch as LAZ: absolute positions and the store's dimensions; features, label, place in the source."""
    rows = patch.rows
    fields = {name: tile.array(name)[rows] for name in (
        'intensity', 'return_number', 'number_of_returns', 'classification')}
    colour, nir = 'rgb' in tile, 'nir' in tile
    if colour:
        fields |= dict(zip(('red', 'green', 'blue'), tile.array('rgb')[rows].T))
    if nir:
        fields['nir'] = tile.array('nir')[rows]
    extra = {'label': (np.uint8, f'{options.labels} class, 255: none'),
             'source_index': (np.uint32, 'place in the source tile'),
             'height': (np.float32, 'm above the local ground')}
    fields |= {'label': labels_as(patch, tile, options.labels), 'source_index': tile.array('source_index')[rows],
               'height': tile.array('height')[rows].astype(np.float32)}
    geometry = np.asarray(tile.array(f'{patch.scale}/geometry')[rows], np.float32)
    for name, column in zip(FEATURE_NAMES, geometry.T):  # the head of the list is the geometry
        extra[name] = (np.float32, f'of {patch.scale} m')
        fields[name] = column
    write_points(path, tile.positions(rows), fields, point_format=8 if nir else 7 if colour else 6,
                 scales=(0.001,) * 3, crs=tile.record.get('crs', 'EPSG:2154'), extra=extra)


def _class_names(labels: str) -> tuple[str, ...]:
    return {'lod3': LABELS, 'lod2': LOD2, 'coarse': COARSE, 'asprs': ()}[labels]


def _folder_of(ref: PatchRef) -> Path:
    return Path(ref.split) / f'patches_{ref.scale}m'


def _links(refs: Sequence[PatchRef], files: dict[PatchRef, str], options: ExportOptions) -> dict[str, str]:
    """Return link to target, both relative to the output, numbered in the order of the merge."""
    suffix = options.formats[0] if 'npz' not in options.formats else 'npz'
    return {str(Path(ref.split) / MERGED / f'multiscale_{ref.scale}m_{number:06d}.{suffix}'): f'{files[ref]}.{suffix}'
            for number, ref in enumerate(refs)}


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(os.path.relpath(target, link.parent))  # relative: a moved export stays whole
    except (OSError, NotImplementedError):
        if link.exists():
            raise
        shutil.copy2(target, link)  # a file system without links


def _make_room(out: Path, store: Store, record: dict[str, Any], planned: dict[str, str], overwrite: bool) -> set[str]:
    """Remove what an earlier export, or a killed one, left and this one does not want; return what it may keep.

    Raises:
        UserError: The folder holds an export that was made otherwise and may not be overwritten, or something else.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return set()
    path = out / RECORD
    if not path.is_file() and out.resolve() == store.root.resolve() and not any(
            (out / folder).exists() for folder in {Path(name).parent for name in planned}):
        return set()
    try:
        before = json.loads(path.read_text(encoding='utf-8'))
        files = before['files'] if before['format'] == _FORMAT else None
        if any(Path(name).is_absolute() or '..' in Path(name).parts for name in files or ()):
            files = None  # no export wrote that, and nothing outside of the folder is ever removed
    except (OSError, ValueError, KeyError, TypeError):
        files = None
    if files is None:
        raise UserError(f'{out}: expected a new folder, an empty one or an earlier export, found other files')
    same = all(before.get(key) == value for key, value in record.items() if key != 'sources')
    links = {name for name in files if Path(name).parent.name == MERGED}
    if before['complete'] and not overwrite and (not same or set(files) - links - set(planned)):
        raise UserError(f'{out}: holds another export, of {len(files):,} files; --overwrite replaces it')
    kept = {name for name in files if same and name in planned and (out / name).is_file()
            and before['sources'].get(planned[name]) == record['sources'][planned[name]]}
    for name in set(files) - kept:
        (out / name).unlink(missing_ok=True)
    for folder in {(out / name).parent for name in files}:
        remove_leftovers(folder)
        if folder.is_dir() and folder != out and not any(folder.iterdir()):
            folder.rmdir()
    return kept
