"""Tiny LAZ tiles of a sloping ground with houses and trees, for tests of what reads files."""

from pathlib import Path

import numpy as np

from projects.geo.point_clouds import write_points

CORNER = np.array([770_000.0, 6_277_000.0])
SCALES = """patch_scales = {
    '20': dict(size=20.0, overlap=0.15, points=128, neighbours=12, buffer=8.0, sor=dict(k=8, std=1.5),
               ror=dict(radius=1.5, neighbours=3)),
    '40': dict(size=40.0, overlap=0.1, points=256, neighbours=16, buffer=12.0, sor=None, ror=None),
}
block_size = 30.0
"""


def cloud(side: tuple[float, float], density: float = 4.0, seed: int = 0, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Return `xyz` (N, 3) on a grid of 1 cm and ASPRS `classification` of one piece of ground."""
    rng = np.random.default_rng(seed)
    count = int(side[0] * side[1] * density)
    xy = rng.uniform((0, 0), np.subtract(side, 0.01), (count, 2))  # rounded, they stay inside
    z = 100 + 0.05 * xy[:, 0] + rng.normal(0, 0.02, count)
    codes = np.full(count, 2, np.uint8)
    house = (np.abs(xy % 30 - 15) < 5).all(axis=1)
    codes[house] = 6
    z[house] += 6
    tree = ~house & (rng.random(count) < 0.1)
    codes[tree] = 5
    z[tree] += rng.uniform(3, 9, tree.sum())
    xyz = np.round(np.column_stack([xy + CORNER, z]), 2)
    xyz[:, :2] += shift
    return {'xyz': xyz, 'classification': codes, 'intensity': rng.integers(0, 3000, count).astype(np.uint16)}


def write_cloud(path: Path, points: dict[str, np.ndarray], rows: np.ndarray | slice = slice(None), **options) -> Path:
    """Write some points of a cloud as a tile."""
    fields = {name: values[rows] for name, values in points.items() if name != 'xyz'}
    write_points(path, points['xyz'][rows], fields, **options)
    return path


def small_tiles(folder: Path, tiles: int = 2, side: float = 60.0, density: float = 4.0, seed: int = 0,
                point_format: int = 6) -> dict[str, np.ndarray]:
    """Write `tiles` tiles in a row, cut half-open out of one cloud, as `folder/tile_N.laz`; return the cloud."""
    points = cloud((side * tiles, side), density, seed)
    number = np.floor((points['xyz'][:, 0] - CORNER[0]) / side).astype(int)
    for tile in range(tiles):
        write_cloud(folder / f'tile_{tile}.laz', points, number == tile, point_format=point_format)
    return points
