"""A town for training: the built-up part of a generated village, scanned, with LOD3 labels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from shapely.geometry import Polygon

from projects.engine.errors import UserError
from projects.lidar.scene_labels import lod3_labels
from projects.scenes.lidar import LidarPoints, Scanner, check_density
from projects.scenes.lidar_files import Town, check_tiles, write_lidar_tiles
from projects.scenes.scene import MAX_EXTENT, MIN_EXTENT, Scene, make_scene

_AROUND = 900.0  # metres a side of the village that a smaller town is cut from: below it, villages are hamlets
_STEP = 10.0  # names of tiles count in tens of metres


def built_up(scene: Scene, extent: float) -> tuple[float, float, float, float]:
    """Bounds of the square of ``extent`` metres, on whole tens of metres, with the most ground under roofs."""
    size = int(scene.extent[0] // _STEP), int(scene.extent[1] // _STEP)
    built = np.zeros((size[1] + 1, size[0] + 1))
    for building in scene.buildings:
        x, y = building.footprint.mean(axis=0)
        if 0 <= x < scene.extent[0] and 0 <= y < scene.extent[1]:
            built[int(y // _STEP), int(x // _STEP)] += Polygon(building.footprint).area
    total = np.pad(built.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    n = int(-(-extent // _STEP))
    rows, columns = (max(1, s - n + 1) for s in (size[1], size[0]))
    inside = np.array([[total[min(r + n, len(total) - 1), min(c + n, total.shape[1] - 1)] - total[r, min(
        c + n, total.shape[1] - 1)] - total[min(r + n, len(total) - 1), c] + total[r, c] for c in range(columns)]
        for r in range(rows)])
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    left, bottom = float(column * _STEP), float(row * _STEP)
    return left, bottom, left + extent, bottom + extent


def labels_of(points: LidarPoints) -> Mapping[str, tuple[np.ndarray, str]]:
    """The extra dimension of a town's tiles."""
    return {'lod3': (lod3_labels(points.object, points.part, points.height), 'LOD3 class, 255 unknown')}


def make_town(folder: str | Path, seed: int, extent: float, tile: float | None = None, density: float = 15.0,
              point_format: int = 8, colour: bool = True, suffix: str = '.laz') -> Town:
    """Write the town of ``seed`` as tiles with the dimension ``lod3``.

    Args:
        folder: made when missing; tiles of the same names are replaced.
        extent: side in metres, whole tens; below 900 it is the most built-up square of a village of that size.
        tile: side of a tile, metres (default: the extent, at most 1000).
        density: pulses per square metre.  point_format: 3, 6, 7 or 8.  colour: fill R, G, B and NIR.

    Raises:
        UserError: a value out of range, or a file in the folder's place.
    """
    if Path(folder).exists() and not Path(folder).is_dir():
        raise UserError(f'{folder}: expected a folder for the tiles, found a file')
    if not MIN_EXTENT <= extent <= MAX_EXTENT or extent % _STEP:
        raise UserError(f'--extent: expected whole tens of metres, {MIN_EXTENT:g} to {MAX_EXTENT:g}, found {extent:g}')
    tile = min(extent, 1000.0) if tile is None else tile
    check_tiles(tile, point_format, suffix)
    check_density(density)
    scene = make_scene(seed, max(extent, _AROUND))
    scanner = Scanner(scene, density, colour=colour and point_format != 6)
    bounds = built_up(scene, extent)
    return write_lidar_tiles(folder, scanner, bounds, tile, point_format, labels_of, suffix)
