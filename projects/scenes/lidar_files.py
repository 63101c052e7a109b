"""A scanned village on disk: LAS or LAZ tiles under IGN's names, with ASPRS codes and what the scene knows besides."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.geo.point_clouds import write_points
from projects.scenes.lidar import QUANTUM, LidarPoints, Scanner
from projects.scenes.objects import OBJECTS

FORMATS = (3, 6, 7, 8)
_COLOURED, _INFRARED = (3, 7, 8), (8,)
Extra = Callable[[LidarPoints], Mapping[str, tuple[np.ndarray, str]]]


@dataclass(frozen=True)
class Town:
    """What :func:`write_lidar_tiles` wrote: paths, points in all, seconds, points per value of the extra dimensions."""

    paths: tuple[Path, ...]
    points: int
    seconds: float
    counts: dict[str, np.ndarray]


def tile_name(west: float, north: float, size: float, suffix: str = '.laz') -> str:
    """IGN's name of a tile by its upper left corner: km where the tile is one on whole km, else in tens of metres."""
    if size == 1000 and west % 1000 == 0 and north % 1000 == 0:
        return f'LHD_FXX_{west / 1000:04.0f}_{north / 1000:04.0f}_PTS_LA93_IGN69{suffix}'
    return f'LHD_FXX_{west / 10:05.0f}_{north / 10:06.0f}_PTS_LA93_IGN69{suffix}'


def asprs_codes(points: LidarPoints) -> np.ndarray:
    """ASPRS codes (N,) uint8 as IGN gives them: 2, 3 to 5 plants by height, 6, 9, 1 for the rest, 65 for echoes."""
    objects, height = points.object, points.height
    plants = np.digitize(height, (0.5, 1.5)).astype(np.uint8) + np.uint8(3)
    code = np.where(height < 0.2, np.uint8(2), plants)
    for names, value in ((('tree', 'hedge'), plants), (('water',), 9), (('building',), 6), (('car',), 1),
                         (('unknown',), 65)):
        code = np.where(np.isin(objects, [OBJECTS[name] for name in names]), value, code)
    return code


def check_tiles(tile: float, point_format: int, suffix: str) -> None:
    """Refuse what cannot be written before a scene is made.

    Raises:
        UserError: a point format other than 3, 6, 7, 8; an edge off whole tens of metres; a suffix of other files.
    """
    if point_format not in FORMATS:
        raise UserError(f'--format: expected {", ".join(map(str, FORMATS))}, found {point_format}')
    if not (tile > 0 and tile % 10 == 0):
        raise UserError(f'--tile: expected whole tens of metres (names count in them), found {tile:g}')
    if suffix not in ('.las', '.laz'):
        raise UserError(f'suffix: expected .las or .laz, found {suffix}')


def write_lidar(path: str | Path, points: LidarPoints, origin: tuple[float, float], point_format: int = 8,
                extra: Mapping[str, tuple[np.ndarray, str]] | None = None) -> None:
    """Write points as LAS or LAZ; ``origin`` is added to x and y, ``extra`` maps names to values and descriptions."""
    xyz, values, described = las_dimensions(points, origin, point_format, extra)
    write_points(path, xyz, values, point_format=point_format, scales=(QUANTUM,) * 3, extra=described)


def las_dimensions(points: LidarPoints, origin: tuple[float, float], point_format: int = 8,
                   extra: Mapping[str, tuple[np.ndarray, str]] | None = None
                   ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, tuple[np.dtype, str]]]:
    """What :func:`write_lidar` writes: coordinates (N, 3), dimensions by name, types and descriptions of the new ones.

    With it in hand a tile's points can be let go of: a file holds half of what a scan knows.
    """
    # Rounded here, by the rule that decided which tile a point belongs to
    xyz = points.xyz / QUANTUM
    np.rint(xyz, out=xyz)
    xyz *= QUANTUM
    xyz += [*origin, 0.0]
    old, code = point_format < 6, asprs_codes(points)
    values: dict[str, np.ndarray] = {
        'intensity': points.intensity, 'return_number': points.return_number,
        'number_of_returns': points.number_of_returns,
        'classification': np.where(code > 31, np.uint8(7), code) if old else code,
        'point_source_id': (points.strip - points.strip.min(initial=0) + 1).astype(np.uint16),
        'gps_time': points.gps_time}
    if old:
        values['scan_angle_rank'] = np.rint(points.scan_angle).astype(np.int8)
    else:
        values['scan_angle'] = np.rint(points.scan_angle / 0.006).astype(np.int16)
        values['scanner_channel'] = points.channel
    if point_format in _COLOURED and points.rgb is not None:
        values.update(zip(('red', 'green', 'blue'), points.rgb.T))
    if point_format in _INFRARED and points.nir is not None:
        values['nir'] = points.nir
    described = {}
    for name, (value, text) in {'object': (points.object, 'scene object'), 'part': (points.part, 'scene part + 1'),
                                **(extra or {})}.items():
        values[name] = value
        described[name] = (value.dtype, text)
    return xyz, values, described


def write_lidar_tiles(folder: str | Path, scanner: Scanner, bounds: tuple[float, float, float, float], tile: float,
                      point_format: int = 8, extra: Extra | None = None, suffix: str = '.laz') -> Town:
    """Scan ``bounds`` (scene metres) as square tiles of ``tile`` metres, from the north west; one is held at a time.

    Args:
        folder: made when missing; tiles of the same names are replaced.
        extra: gives more dimensions of a tile's points: name to (values, description).

    Raises:
        UserError: a point format other than 3, 6, 7, 8, or tiles off whole tens of metres.
    """
    start = time.monotonic()
    left, bottom, right, top = bounds
    check_tiles(tile, point_format, suffix)
    if left % 10 or top % 10:
        raise UserError(f'bounds: expected an upper left corner on whole tens of metres, found {left:g}, {top:g}')
    columns, rows = int(np.ceil((right - left) / tile - 1e-9)), int(np.ceil((top - bottom) / tile - 1e-9))
    paths, total, counts = [], 0, {}
    east, north = scanner.scene.origin
    for k in progress(range(columns * rows), 'lidar', unit='tile'):
        x, y = left + k % columns * tile, top - k // columns * tile
        points = scanner.sample((x, max(y - tile, bottom), min(x + tile, right), y))
        if not len(points):
            continue
        total += len(points)
        more = dict(extra(points)) if extra else {}
        for name, (value, _) in more.items():
            counts[name] = counts.get(name, np.zeros(256, np.int64)) + np.bincount(value, minlength=256)
        path = Path(folder) / tile_name(east + x, north + y, tile, suffix)
        xyz, values, described = las_dimensions(points, scanner.scene.origin, point_format, more)
        del points, more
        write_points(path, xyz, values, point_format=point_format, scales=(QUANTUM,) * 3, extra=described)
        del xyz, values
        paths.append(path)
    return Town(tuple(paths), total, time.monotonic() - start, counts)
