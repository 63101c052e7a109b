"""Many tiles into one store: what is planned, what is done already, what failed, and the manifest at the end."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError, told
from projects.engine.files import check_output_folder
from projects.engine.lock import held
from projects.geo.executors import Executor
from projects.geo.point_clouds import PointHeader
from projects.geo.point_tiles import TileIndex, check_name, read_headers
from projects.geo.task_manifest import TaskManifest, digest_of, file_identity
from projects.lidar.exporting import ExportOptions, bytes_of
from projects.lidar.preparation.blocks import cut_blocks
from projects.lidar.preparation.patches import patch_boxes
from projects.lidar.preparation.settings import Settings
from projects.lidar.preparation.statistics import store_statistics
from projects.lidar.preparation.stored_neighbours import SEEN, stored_neighbours
from projects.lidar.preparation.tile import reach, tile_arrays
from projects.lidar.store import (
    INCOMPLETE,
    MANIFEST,
    SPLITS,
    TILES,
    ground_digest,
    read_json,
    write_arrays,
    write_manifest,
)

SUFFIXES = ('.laz', '.las')
CODE = 2  # raised when the same input and settings begin to give another result: tiles are then made again
LOCK = '.lock'
# Bytes of a point that all scales share (colours and infrared apart), and at each scale; of a listed row.
POINT_BYTES, COLOUR_BYTES, NIR_BYTES, SCALE_BYTES, ROW_BYTES = 30, 6, 2, 22, 4


@dataclass(frozen=True)
class Plan:
    """Tiles to prepare.

    Attributes:
        headers: Of the readable ones by name, in an order in which neighbours follow each other.
        failed: Name to message of the others.
        warnings: Names that disagree with headers, tiles that share ground.
        index: Of all readable tiles.
    """

    headers: dict[str, PointHeader]
    failed: dict[str, str]
    warnings: tuple[str, ...]
    index: TileIndex


@dataclass
class Report:
    """What became of a plan."""

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    points: int = 0
    patches: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class ScalePlan:
    """What one scale of a plan comes to, before anything is written; ``file_bytes`` of patch files, where asked for."""

    patches: int
    listed_points: int
    bytes: int
    file_bytes: int


@dataclass(frozen=True)
class _Task:
    name: str
    header: PointHeader
    neighbours: tuple[PointHeader, ...]
    identities: tuple[dict[str, Any], ...]  # of the neighbours' files
    digest: str


def find_tiles(inputs: Iterable[str | Path]) -> dict[str, Path]:
    """Return the point-cloud files of files and folders, by the name that their tiles get.

    Raises:
        UserError: An input does not exist, a folder holds none, or two files would get the same name.
    """
    found: dict[str, Path] = {}
    for given in map(Path, inputs):
        if given.is_dir():
            files = sorted(path for path in given.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
            if not files:
                raise UserError(f'{given}: expected .laz or .las files, found none')
        elif given.exists():
            files = [given]
        else:
            raise UserError(f'{given}: expected a file or a folder of tiles, found nothing')
        for path in files:
            other = found.setdefault(tile_name(path), path)
            if other.resolve() != path.resolve():
                raise UserError(f'{path}: expected one tile of the name {tile_name(path)}, found another: {other}')
    return found


def tile_name(path: Path) -> str:
    """Return the name of a file's tile: its own without ``.laz``, ``.las`` or ``.copc.laz``."""
    return path.stem.removesuffix('.copc')


def plan(inputs: Iterable[str | Path]) -> Plan:
    """Read the headers of all tiles.

    Raises:
        UserError: See :func:`find_tiles`.
    """
    paths = find_tiles(inputs)
    headers, errors = read_headers(list(paths.values()))
    index = TileIndex(_in_order(headers))
    headers = index.headers
    warnings = [warning for header in headers if (warning := check_name(header))] + index.overlaps()
    return Plan({tile_name(header.path): header for header in headers},
                {tile_name(path): told(error) for path, error in errors.items()}, tuple(warnings), index)


def estimate(tiles: Plan, settings: Settings, files: ExportOptions | None = None) -> tuple[dict[str, ScalePlan], int]:
    """Return patches and storage of every scale from the headers alone, and the bytes that all scales share.

    ``files`` says how patches are written as files, None that they are not. Points are taken to lie evenly in their
    tile; patches with too few points and outliers are not known yet.
    """
    found = {}
    for key, scale in settings.scales.items():
        patches, listed, points, of_files = 0, 0.0, 0, 0
        for header in tiles.headers.values():
            x0, y0, _, x1, y1, _ = header.bounds
            area = max((x1 - x0) * (y1 - y0), 1e-6)
            for block in cut_blocks((x0, y0, x1, y1), settings.block_size).boxes():
                boxes = patch_boxes(block, scale.size, scale.overlap)
                patches += len(boxes)
                inside = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / area * header.count
                listed += inside.sum()
                if files is not None:
                    of_files += sum(bytes_of(count, files) for count in np.minimum(inside, scale.points).tolist())
            points += header.count
        found[key] = ScalePlan(patches, round(listed), round(points * SCALE_BYTES + listed * ROW_BYTES), of_files)
    shared = sum(header.count * (POINT_BYTES + COLOUR_BYTES * (header.has_colour and settings.use_rgb)
                                 + NIR_BYTES * (header.has_nir and settings.use_infrared))
                 for header in tiles.headers.values())
    return found, shared


def prepare(tiles: Plan, out: str | Path, settings: Settings, executor: Executor, *, cache: bool = True,
            overwrite: bool = False, on_result: Callable[[str, str | None], None] | None = None,
            progress: Callable[[Iterator[Any], int], Iterable[Any]] | None = None) -> Report:
    """Prepare what is missing or changed, and write the manifest of the store.

    Args:
        tiles: See :func:`plan`.
        out: Folder of the store.
        settings: See :class:`~projects.lidar.preparation.settings.Settings`.
        executor: Where tiles are prepared.
        cache: Let workers keep borders of tiles between tiles.
        overwrite: Prepare a store of other settings anew.
        on_result: Told each tile's name and its failure, or None, as they finish.
        progress: Wraps the iteration over ``(record, points)`` with the number of tiles to come.

    Raises:
        UserError: The folder cannot be written or is in use, or holds a store of other settings.
    """
    out = Path(out)
    check_output_folder(out)
    with held(out / LOCK, out, 'is preparing tiles into it; wait for it, or choose another --out'):
        before = _manifest_before(out, settings, overwrite)
        manifest = TaskManifest(out / TILES)
        manifest.remove_leftovers()
        report = Report(failed=dict(tiles.failed), warnings=list(tiles.warnings))
        tasks = _tasks(tiles, _index(tiles, out, before, manifest, settings, report), settings)
        pending = set(manifest.pending({task.name: task.digest for task in tasks}))
        # A neighbour that could not be read may be readable now, with the same size and time of change
        pending |= {task.name for task in tasks if (manifest.read(task.name) or {}).get('unread')}
        report.kept = [task.name for task in tasks if task.name not in pending]
        todo = [task for task in tasks if task.name in pending]
        if todo and before is None and (out / MANIFEST).is_file():
            # Tiles of two settings lie beside each other from here to the end: a killed run must not look like a store.
            write_manifest(out, settings.as_dict(), [], **{INCOMPLETE: True})
        for name in (*report.failed, *pending):
            manifest.forget(name)  # what it says is no longer true
        sources = {name: header.path for name, header in tiles.headers.items()}
        _run(todo, sources, manifest, settings, executor, cache, report, on_result, progress)
        _finish(out, manifest, settings, before, report)
    return report


def _run(todo: list[_Task], sources: dict[str, Path], manifest: TaskManifest, settings: Settings, executor: Executor,
         cache: bool, report: Report, on_result: Callable[[str, str | None], None] | None,
         progress: Callable[[Iterator[Any], int], Iterable[Any]] | None) -> None:
    begin = time.perf_counter()
    work = functools.partial(prepare_task, folder=str(manifest.folder.absolute()), settings=settings, cache=cache)
    results = executor.run(work, todo, [task.name for task in todo])
    for name, result in progress(results, len(todo)) if progress else results:
        if isinstance(result, Exception):
            report.failed[name] = _failure(sources[name], result)
        else:
            report.done.append(name)
            report.points += result['points']
        if on_result is not None:
            on_result(name, report.failed.get(name))
    report.seconds = time.perf_counter() - begin


def prepare_task(task: _Task, folder: str, settings: Settings, cache: bool) -> dict[str, Any]:
    """Prepare one tile wherever it is told to; its record is written last and says that it is done."""
    out = Path(folder) / f'{task.name}.safetensors'
    index = TileIndex([task.header, *task.neighbours])
    arrays, record = tile_arrays(task.header, index, settings, cache)
    record = {'name': task.name, **record, **write_arrays(out, arrays), SEEN: list(task.identities)}
    TaskManifest(folder).write(task.name, task.digest, record, (out.name,))
    return {'points': record['points']}


def _finish(out: Path, manifest: TaskManifest, settings: Settings, before: dict[str, Any] | None,
            report: Report) -> None:
    """Write the manifest: this run's tiles, and those that earlier runs with the same settings left."""
    earlier = [item['name'] for item in (before or {}).get('items', []) if item['name'] not in report.failed]
    records = {name: record for name in sorted({*report.done, *report.kept, *earlier})
               if (record := manifest.read(name)) is not None}
    notes: dict[str, list[str]] = {}
    for name in (*report.done, *report.kept):
        record = records[name]
        for note in record['notes']:
            notes.setdefault(note, []).append(record['source'])
        for key, count in record['patches'].items():
            report.patches[key] = report.patches.get(key, 0) + count
        if not any(record['patches'].values()):
            report.failed[name] = (f'{record["source"]}: gives no patch: expected one with at least '
                                   f'{settings.min_points} points, found {record["points"]} points in all')
    report.warnings += [f'{sources[0]}{f" and {len(sources) - 1} more" if len(sources) > 1 else ""}: {note}'
                        for note, sources in notes.items()]
    if not records and not (before or {}).get('items'):
        return
    more = {'statistics': store_statistics(record['statistics'] for record in records.values())} \
        if settings.save_stats else {}
    write_manifest(out, settings.as_dict(), list(records.values()), **more)
    if (out / SPLITS).is_file() and read_json(out / SPLITS).get('ground') != ground_digest(records):
        report.warnings.append(f'{out / SPLITS}: is of other tiles or blocks; run tools/lidar/split.py --overwrite')


def _manifest_before(out: Path, settings: Settings, overwrite: bool) -> dict[str, Any] | None:
    if not (out / MANIFEST).is_file():
        return None
    manifest = read_json(out / MANIFEST)
    if digest_of(_decisive(manifest['settings'])) == digest_of(_decisive(settings.as_dict())):
        return manifest
    if overwrite:
        return None
    here, there = _decisive(settings.as_dict()), _decisive(manifest['settings'])
    key = next((key for key in here if digest_of(here[key]) != digest_of(there.get(key))), 'settings')
    raise UserError(f'{out}: {key}: expected {there.get(key)!r}, with which this store was prepared, '
                    f'found {here[key]!r}; choose another --out, or --overwrite')


def _index(tiles: Plan, out: Path, before: dict[str, Any] | None, manifest: TaskManifest, settings: Settings,
           report: Report) -> TileIndex:
    """Return the tiles of this run and those of the store that border on them; warn of what is not seen so."""
    others = [item['name'] for item in (before or {}).get('items', [])
              if item['name'] not in tiles.headers and item['name'] not in tiles.failed]
    records = [record for name in others if (record := manifest.read(name)) is not None]
    found, gone, late = stored_neighbours(tiles.headers.values(), records, reach(settings))
    for names, why in ((gone, 'their files are not beside the inputs, so the border is not seen'),
                        (late, 'they were prepared without these or with older ones')):
        if names:
            report.warnings.append(f'{out}: {len(names)} stored tiles border on the inputs ({names[0]} among them), '
                                   f'but {why}; give them together')
    return TileIndex(_in_order([*tiles.index.headers, *found]))


def _in_order(headers: Iterable[PointHeader]) -> list[PointHeader]:
    """Whoever names a tile, and when: its neighbours come in one order, and give one digest."""
    return sorted(headers, key=lambda header: (header.bounds[0], header.bounds[1], str(header.path)))


def _tasks(tiles: Plan, index: TileIndex, settings: Settings) -> list[_Task]:
    values = _decisive(settings.as_dict())
    tasks = []
    for name, header in tiles.headers.items():
        neighbours = index.neighbours(header, reach(settings))
        identities = tuple(file_identity(other.path) for other in neighbours)
        digest = digest_of({'code': CODE, 'settings': values, 'input': file_identity(header.path),
                            'neighbours': identities})
        tasks.append(_Task(name, _anywhere(header), tuple(map(_anywhere, neighbours)), identities, digest))
    return tasks


def _anywhere(header: PointHeader) -> PointHeader:
    """Workers may have another working directory."""
    return replace(header, path=header.path.absolute())


def _decisive(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without those that no tile's file depends on."""
    return {key: value for key, value in settings.items() if key not in ('export', 'training')}


def _failure(path: Path, error: Exception) -> str:
    if isinstance(error, UserError):
        line = told(error).replace(str(path.absolute()), str(path))  # as it was given
        return line if path.stem in line else f'{path}: {line}'
    if isinstance(error, OSError):
        return f'{path}: {error.strerror or error}' + (f' ({error.filename})' if error.filename else '')
    return f'{path}: {type(error).__name__}: {told(error)}'


def table(scales: dict[str, ScalePlan], shared: int, tiles: Sequence[str]) -> list[str]:
    """Return the lines of a dry run."""
    lines = [f'{len(tiles)} tiles', f'{"scale":>8}{"patches":>12}{"points listed":>18}{"storage":>14}']
    lines += [f'{key + " m":>8}{one.patches:>12,}{one.listed_points:>18,}{_size(one.bytes):>14}'
              for key, one in scales.items()]
    total = shared + sum(one.bytes for one in scales.values())
    lines += [f'{name:>8}{_size(count):>44}' for name, count in (('shared', shared), ('all', total))]
    return lines + [f'{key + " m":>8}{one.patches:>12,} patches as files{_size(one.file_bytes):>15}'
                    for key, one in scales.items() if one.file_bytes]


def _size(count: int) -> str:
    return f'{count / 1e9:,.2f} GB' if count >= 1e9 else f'{count / 1e6:,.1f} MB'
