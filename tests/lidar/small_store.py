"""A tiny tile store of random points, for tests of everything that reads one."""

from pathlib import Path

import numpy as np

from projects.lidar.classes import BUILDING, IGNORE, LOD3
from projects.lidar.preparation.blocks import cut_blocks
from projects.lidar.preparation.patches import cut_patches
from projects.lidar.store import Store, ground_digest, mean_ground, open_store, write_manifest, write_tile

SCALES = {'50': dict(size=50.0, overlap=0.15, points=256, neighbours=20, buffer=8.0, sor=dict(k=8, std=1.5),
                     ror=dict(radius=0.5, neighbours=3)),
          '100': dict(size=100.0, overlap=0.12, points=256, neighbours=25, buffer=12.0, sor=dict(k=10, std=2.0),
                      ror=dict(radius=0.75, neighbours=4)),
          '150': dict(size=150.0, overlap=0.10, points=512, neighbours=30, buffer=15.0, sor=dict(k=12, std=2.0),
                      ror=dict(radius=1.0, neighbours=4))}
ORIGIN = np.array([770_000.0, 6_277_000.0, 100.0])


def farthest_points_first(local: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Plain farthest-point sampling of the first `count` points, the rest shuffled."""
    first = int(np.argmin(((local - local.mean(0)) ** 2).sum(1)))
    chosen, distance = [first], ((local - local[first]) ** 2).sum(1)
    while len(chosen) < min(count, len(local)):
        distance[chosen[-1]] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((local - local[chosen[-1]]) ** 2).sum(1))
    rest = np.setdiff1d(np.arange(len(local)), chosen)
    return np.concatenate([chosen, np.random.default_rng(seed).permutation(rest)]).astype(np.uint32)


def small_store(root: Path, tiles: int = 2, points: int = 4000, side: float = 200.0, block_size: float = 100.0, *,
                scales: tuple[str, ...] = ('50', '100', '150'), kind: str = 'synthetic', colour: bool = True,
                split: bool = True, seed: int = 0) -> Store:
    """Write and open a store of `tiles` square tiles in a row, with `points` random points each.

    Heights tell the classes apart, so a small network can learn them: ground lies at 0 m, walls between 0.5 and 6 m
    along the sides of a house, its roof at 6 m, trees above 8 m. Labels are LOD3 for `synthetic`, ASPRS-like for
    `real`. With `split`, blocks go to train, val and test in turn (2 : 1 : 1).
    """
    rng = np.random.default_rng(seed)
    chosen = {key: SCALES[key] for key in scales}
    records = []
    for number in range(tiles):
        name = f'tile_{number:02d}'
        origin = ORIGIN + [number * side, 0, 0]
        local = np.concatenate([rng.uniform(0, side, (points, 2)), rng.normal(0, 0.02, (points, 1))], axis=1)
        label = np.full(points, LOD3.index('ground'), np.uint8)
        house = (np.abs(local[:, :2] % 50 - 25) < 10).all(axis=1)
        label[house] = LOD3.index('roof_gable')
        local[house, 2] += 6
        wall = house & (np.abs(local[:, 0] % 50 - 25) > 8)
        label[wall] = LOD3.index('wall_plain')
        local[wall, 2] -= rng.uniform(0, 5.5, wall.sum())
        tree = ~house & (rng.random(points) < 0.15)
        label[tree] = LOD3.index('vegetation_high')
        local[tree, 2] += rng.uniform(8, 14, tree.sum())
        if kind == 'real':
            label[house] = BUILDING
            label[rng.random(points) < 0.05] = IGNORE
        quantised = np.round(local / 0.001).astype(np.int32)
        bounds = (*origin[:2], origin[0] + side, origin[1] + side)
        xyz = origin + quantised * 0.001
        grid = cut_blocks(bounds, block_size)
        arrays = {
            'xyz': quantised, 'intensity': rng.integers(0, 4000, points).astype(np.uint16),
            'return_number': np.ones(points, np.uint8), 'number_of_returns': np.ones(points, np.uint8),
            'classification': np.where(house, 6, np.where(tree, 5, 2)).astype(np.uint8), 'label': label,
            'source_index': np.arange(points, dtype=np.uint32), 'height': local[:, 2].astype(np.float16),
            'building_area': np.where(house, np.where(local[:, 1] > side / 2, 120.0, 400.0), 0).astype(np.float32),
            'block': grid.number_of(xyz[:, :2])}
        if colour:
            arrays |= {'rgb': rng.integers(0, 65535, (points, 3)).astype(np.uint16),
                       'nir': rng.integers(0, 65535, points).astype(np.uint16)}
        counts = {}
        for key, scale in chosen.items():
            geometry = rng.random((points, 9))
            geometry[:, 4] /= 3
            geometry[:, 6:] /= np.linalg.norm(geometry[:, 6:], axis=1, keepdims=True)
            lists = cut_patches(xyz, np.ones(points, bool), arrays['block'], grid, size=scale['size'],
                                overlap=scale['overlap'], points=scale['points'], min_points=20,
                                order=farthest_points_first)
            ground = [mean_ground(xyz[rows, 2], arrays['height'][rows])
                      for rows in np.split(lists.index, lists.offset[1:-1])]
            counts[key] = len(lists.block)
            arrays |= {f'{key}/geometry': geometry.astype(np.float16),
                       f'{key}/log_density': np.log1p(rng.uniform(5, 30, points)).astype(np.float16),
                       f'{key}/outlier': np.zeros(points, np.uint8), f'{key}/incomplete': np.zeros(points, np.uint8),
                       f'{key}/patch_index': lists.index, f'{key}/patch_offset': lists.offset,
                       f'{key}/patch_box': lists.box, f'{key}/patch_block': lists.block,
                       f'{key}/patch_ground': np.array(ground)}
        records.append(write_tile(root / 'tiles' / f'{name}.safetensors', arrays, {
            'name': name, 'source': f'{name}.laz', 'kind': kind, 'points': points, 'patches': counts,
            'origin': origin.tolist(), 'quantum': 0.001, 'bounds': [float(value) for value in bounds],
            'scales': chosen, 'blocks': grid.boxes().tolist()}))
    write_manifest(root, {'scales': chosen, 'block_size': block_size}, records)
    if split:
        from projects.engine.files import write_json

        names = ('train', 'train', 'val', 'test')
        blocks = {record['name']: {str(block): names[block % 4] for block in range(len(record['blocks']))}
                  for record in records}
        ground = ground_digest({record['name']: record for record in records})
        write_json(root / 'splits.json', {'ground': ground, 'blocks': blocks})
    return open_store(root)
