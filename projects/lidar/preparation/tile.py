"""One tile from its file to the store: labels, features at every scale, heights, blocks, patches.

``s/incomplete`` says by bits what may be another value in a larger tile: 1, the neighbourhood that the features of
scale ``s`` rest on reaches past the buffer; 2 (the same at all scales), the ground that the height rests on does.
Points with neither have the values that the merged tiles would give. Where a tile has no classified ground, ground is
told by what lies up to 54 m around it, and bit 2 is set that far from the buffer's end.

A neighbour whose file is damaged is taken for absent; a note and ``unread`` of the record (names of files) say so.
"""

from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.geo.point_buffers import BorderCache, read_buffer
from projects.geo.point_clouds import PointHeader, Points, read_points
from projects.geo.point_tiles import TileIndex
from projects.lidar.classes import ASPRS, BUILDING, BUILDING_PARTS, IGNORE, LOD3, labels_of_codes
from projects.lidar.preparation.blocks import BlockGrid, cut_blocks
from projects.lidar.preparation.footprints import footprint_areas
from projects.lidar.preparation.height import known_heights
from projects.lidar.preparation.patches import cut_patches
from projects.lidar.preparation.point_features import compute_features
from projects.lidar.preparation.sampling import farthest_point_order
from projects.lidar.preparation.settings import Scale, Settings
from projects.lidar.preparation.statistics import is_removed, tile_statistics
from projects.lidar.store import mean_ground, write_tile

FIELDS = ('intensity', 'return_number', 'number_of_returns', 'classification')
CHANNELS = ('red', 'green', 'blue', 'nir')
GROUND = 2
PLACE = 10.0  # metres: rows are sorted by squares of this side within blocks, so that a patch lies in few pages
EDGE = 0.01  # metres beyond a tile in which points of its border are looked for in other tiles, whatever the buffer
NEIGHBOURHOOD, HEIGHT = 1, 2  # bits of s/incomplete
LIMIT = 2 ** 31 - 1
BUFFER_FIELDS = {'classification': np.uint8(0), 'lod3': np.uint8(IGNORE)}  # what other tiles need to know of a tile
# One a process. Workers get their tasks one by one and have no other place for what they keep between them.
BORDERS = BorderCache()


def prepare_tile(header: PointHeader, index: TileIndex, settings: Settings, out_path: str | Path,
                 cache: bool = True) -> dict[str, Any]:
    """Prepare a tile and write it to ``out_path`` (``.safetensors``, its record beside it).

    Args:
        header: Of the tile.
        index: The tiles whose points may lie in its buffer.
        settings: See :class:`~projects.lidar.preparation.settings.Settings`; ``block_size`` None makes one block.
        out_path: Its stem is the tile's name in the store.
        cache: Keep borders of tiles for the next call in this process.

    Returns:
        The record.

    Raises:
        UserError: The file is damaged, or has codes that no mapping knows.
    """
    arrays, record = tile_arrays(header, index, settings, cache)
    return write_tile(out_path, arrays, {'name': Path(out_path).stem, **record})


def reach(settings: Settings) -> float:
    """Return how far around its box a tile depends on other tiles, metres: more than 0 without a buffer, too."""
    return max(settings.buffer, EDGE, 2 * settings.quantum)


def tile_arrays(header: PointHeader, index: TileIndex, settings: Settings,
                cache: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a tile, see projects/lidar/store.py, and its record without a name."""
    points = read_points(header.path, [*FIELDS, *CHANNELS, *(['lod3'] if 'lod3' in header.dimensions else [])])
    label, kind = _labels(points, settings)
    if cache:
        BORDERS.keep(header, reach(settings), BUFFER_FIELDS, points)
    around_xyz, around, unread = read_buffer(index, header, reach(settings), BUFFER_FIELDS, BORDERS if cache else None)
    beyond = around_xyz
    if settings.buffer < reach(settings):  # no buffer, then
        around_xyz, around = around_xyz[:0], {name: values[:0] for name, values in around.items()}

    x0, y0, x1, y1 = bounds = (*points.xyz[:, :2].min(axis=0).tolist(), *points.xyz[:, :2].max(axis=0).tolist())
    grid = cut_blocks(bounds, settings.block_size)
    block = grid.number_of(points.xyz[:, :2])
    order = _by_place(points.xyz, block)
    # One copy of the coordinates: at ten million points it is a quarter of a gigabyte.
    every = np.concatenate([points.xyz[order], around_xyz])
    xyz, label, block = every[:len(order)], label[order], block[order]
    fields = {name: values[order] for name, values in points.fields.items() if name != 'lod3'}
    origin = np.floor(xyz.min(axis=0))
    extent = float((xyz.max(axis=0) - origin).max())
    if extent > LIMIT * settings.quantum:
        raise UserError(f'{header.path}: expected a tile of at most {LIMIT * settings.quantum:,.0f} m, '
                        f'found {extent:,.0f} m')
    own = np.arange(len(every)) < len(xyz)
    codes = np.concatenate([fields['classification'], around['classification']])
    area = max((x1 - x0) * (y1 - y0), 1.0)

    height, known = known_heights(every, codes == GROUND, own)
    arrays: dict[str, np.ndarray] = {
        'xyz': np.rint((xyz - origin) / settings.quantum).astype(np.int32),
        **{name: fields.pop(name) for name in FIELDS}, 'label': label,
        'source_index': order.astype(np.uint32), 'height': height.astype(np.float16),
        'building_area': _building_areas(xyz, label, around_xyz, around, settings, len(xyz) / area), 'block': block}
    arrays['intensity'] = arrays['intensity'].astype(np.uint16, copy=False)
    if points.has_colour and settings.use_rgb:
        arrays['rgb'] = np.stack([fields[name] for name in CHANNELS[:3]], axis=1)
    if points.has_nir and settings.use_infrared:
        arrays['nir'] = fields['nir']
    del fields, points
    twice = _in_next_tile(xyz, beyond, bounds, settings.quantum)
    left_out = {}
    for key, scale in settings.scales.items():
        _add_features(arrays, key, scale, every, own)
        arrays[f'{key}/incomplete'] |= np.where(known, 0, HEIGHT).astype(np.uint8)
        left_out[key] = _add_patches(arrays, key, scale, xyz, ~twice, block, grid, settings)
    record = _record(header, settings, arrays, left_out, kind, origin, bounds, area, grid.boxes())
    if unread:
        record['unread'] = sorted(unread)
        record['notes'] += [f'prepared without its neighbour {name}: {wrong}' for name, wrong in sorted(unread.items())]
    return arrays, record


def _add_features(arrays: dict[str, np.ndarray], key: str, scale: Scale, every: np.ndarray, own: np.ndarray) -> None:
    found = compute_features(every, own, neighbours=scale.neighbours, buffer=scale.buffer,
                             sor=scale.sor and dict(scale.sor), ror=scale.ror and dict(scale.ror))
    arrays |= {f'{key}/geometry': found.geometry.astype(np.float16),
               f'{key}/log_density': found.log_density.astype(np.float16), f'{key}/outlier': found.outlier,
               f'{key}/incomplete': found.incomplete * np.uint8(NEIGHBOURHOOD)}


def _add_patches(arrays: dict[str, np.ndarray], key: str, scale: Scale, xyz: np.ndarray, once: np.ndarray,
                 block: np.ndarray, grid: BlockGrid, settings: Settings) -> int:
    keep = once & ~is_removed(arrays[f'{key}/outlier'])
    if settings.voxel:
        keep &= _one_a_voxel(xyz, keep, settings.voxel)
    lists = cut_patches(
        xyz, keep, block, grid, size=scale.size, overlap=scale.overlap, points=scale.points,
        min_points=settings.min_points, seed=settings.seed,
        order=farthest_point_order if settings.sampling == 'fps' else _shuffled)
    ground = [mean_ground(xyz[rows, 2], arrays['height'][rows])
              for rows in np.split(lists.index, lists.offset[1:-1])] if len(lists.block) else []
    arrays |= {f'{key}/patch_index': lists.index, f'{key}/patch_offset': lists.offset, f'{key}/patch_box': lists.box,
               f'{key}/patch_block': lists.block, f'{key}/patch_ground': np.array(ground, np.float64)}
    return lists.left_out


def _record(header: PointHeader, settings: Settings, arrays: dict[str, np.ndarray], left_out: dict[str, int], kind: str,
            origin: np.ndarray, bounds: tuple[float, ...], area: float, blocks: np.ndarray) -> dict[str, Any]:
    values = settings.as_dict()
    notes = []
    if not arrays['classification'].any():
        notes.append('classification: every point has 0, so none has a label')
    missing = [word for word, name, wanted in (('colours', 'rgb', settings.use_rgb),
                                               ('infrared', 'nir', settings.use_infrared))
               if wanted and name not in arrays]
    if missing:
        notes.append(f'no {", no ".join(missing)}: masked')
    record = {
        'source': header.path.name, 'crs': header.crs, 'kind': kind, 'points': len(arrays['label']),
        'patches': {key: len(arrays[f'{key}/patch_block']) for key in settings.scales}, 'origin': origin.tolist(),
        'quantum': settings.quantum, 'bounds': list(bounds), 'ndvi': settings.compute_ndvi, 'scales': values['scales'],
        'blocks': blocks.tolist(), 'channels': [name for name in ('rgb', 'nir') if name in arrays], 'notes': notes}
    if settings.save_stats:
        alone = {f'{key}/incomplete': arrays[f'{key}/incomplete'] & NEIGHBOURHOOD for key in settings.scales}
        record['statistics'] = tile_statistics({**arrays, **alone}, settings.scales, left_out, area)
    if settings.save_metadata:
        record['metadata'] = {
            'point_format': header.point_format, 'version': header.version, 'points': header.count,
            'header_bounds': list(header.bounds), 'dimensions': list(header.dimensions), 'extra': list(header.extra),
            'scales': list(header.scales), 'offsets': list(header.offsets)}
    return record


def _labels(points: Points, settings: Settings) -> tuple[np.ndarray, str]:
    """Return labels and ``real`` or ``synthetic``."""
    path, lod3 = points.header.path, points.fields.get('lod3')
    if settings.labels == 'lod3' and lod3 is None:
        raise UserError(f'{path}: lod3: expected a dimension with LOD3 classes, found '
                        f'{", ".join(points.header.extra) or "no extra dimension"}')
    if lod3 is None or settings.labels == 'asprs':
        mapping = {**ASPRS, **dict(settings.mapping)}
        return labels_of_codes(points.fields['classification'], str(path), mapping, settings.unknown), 'real'
    if lod3.dtype != np.uint8 or ((lod3 >= len(LOD3)) & (lod3 != IGNORE)).any():
        strange = np.unique(lod3[(lod3 >= len(LOD3)) & (lod3 != IGNORE)])[:5]
        raise UserError(f'{path}: lod3: expected uint8 of 0 to {len(LOD3) - 1} or {IGNORE}, '
                        f'found {lod3.dtype} with {", ".join(map(str, strange)) or "fitting values"}')
    return lod3, 'synthetic'


def _building_areas(xyz: np.ndarray, label: np.ndarray, around_xyz: np.ndarray, around: dict[str, np.ndarray],
                    settings: Settings, density: float) -> np.ndarray:
    """Return ``(N,)`` float32; buildings are followed into the buffer."""
    is_part = np.zeros(256, bool)
    is_part[[*BUILDING_PARTS, BUILDING]] = True
    rows = np.flatnonzero(is_part[label])
    if settings.labels != 'asprs' and (around['lod3'] != IGNORE).any():
        outside = is_part[around['lod3']]
    else:
        mapping = {**ASPRS, **dict(settings.mapping)}
        outside = is_part[labels_of_codes(around['classification'], '', mapping, unknown='ignore')]
    areas = footprint_areas(np.concatenate([xyz[rows, :2], around_xyz[outside, :2]]), density)
    out = np.zeros(len(xyz), np.float32)
    out[rows] = areas[:len(rows)]
    return out


def _by_place(xyz: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return an order by block and by squares within, which keeps the file's order inside a square."""
    square = np.floor(xyz[:, :2] / PLACE).astype(np.int64)
    square -= square.min(axis=0)
    columns, rows = square.max(axis=0) + 1
    return np.argsort((block.astype(np.int64) * rows + square[:, 1]) * columns + square[:, 0], kind='stable')


def _in_next_tile(xyz: np.ndarray, around: np.ndarray, bounds: tuple[float, ...], quantum: float) -> np.ndarray:
    """Return ``(N,)`` bool: points on the upper borders of a tile that the next tile has too; its patches list them.

    Tiles are often cut with both borders, and the two may be in different splits.
    """
    _, _, x1, y1 = bounds
    twice = np.zeros(len(xyz), bool)
    rows = np.flatnonzero((xyz[:, 0] >= x1 - quantum) | (xyz[:, 1] >= y1 - quantum))
    near = around[(np.abs(around[:, 0] - x1) < 2 * quantum) | (np.abs(around[:, 1] - y1) < 2 * quantum)]
    there = {tuple(place) for place in np.rint(near / quantum).astype(np.int64).tolist()}
    places = np.rint(xyz[rows] / quantum).astype(np.int64).tolist()
    twice[rows] = [tuple(place) in there for place in places]
    return twice


def _one_a_voxel(xyz: np.ndarray, keep: np.ndarray, side: float) -> np.ndarray:
    """Return ``(N,)`` bool: the first kept point of every voxel."""
    rows = np.flatnonzero(keep)
    chosen = np.zeros(len(xyz), bool)
    if len(rows):
        voxel = np.floor(xyz[rows] / side).astype(np.int64)
        voxel -= voxel.min(axis=0)
        _, sy, sz = (int(value) + 1 for value in voxel.max(axis=0))
        keys = (voxel[:, 0] * sy + voxel[:, 1]) * sz + voxel[:, 2]
        chosen[rows[np.unique(keys, return_index=True)[1]]] = True
    return chosen


def _shuffled(local: np.ndarray, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(local))
