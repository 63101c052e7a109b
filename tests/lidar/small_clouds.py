"""Small clouds with what kernels meet: slopes, façades, trees, duplicates, regular grids."""

import numpy as np

SCALE = dict(neighbours=20, buffer=8.0, sor=dict(k=8, std=1.5), ror=dict(radius=0.5, neighbours=3))
CORNER = np.array([770500.0, 6277500.0, 120.0])


def town(rng, width=100.0, depth=50.0, density=10.0):
    """Return coordinates to 1 cm ``(n, 3)``: sloping ground, a house with walls, a tree, exact duplicates."""
    n = int(width * depth * density)
    ground = np.column_stack([rng.uniform(0, width, n), rng.uniform(0, depth, n), rng.normal(0, 0.02, n)])
    ground[:, 2] += 0.05 * ground[:, 0]
    middle = width / 2
    roof = np.column_stack([rng.uniform(middle - 6, middle + 6, n // 10), rng.uniform(10, 20, n // 10),
                            rng.normal(8, 0.02, n // 10)])
    wall = np.column_stack([np.full(n // 20, middle - 6) + rng.normal(0, 0.02, n // 20), rng.uniform(10, 20, n // 20),
                            rng.uniform(2.5, 8, n // 20)])
    tree = rng.normal(0, 1.5, (n // 20, 3)) + [middle, 35, 8]
    cloud = np.concatenate([ground, roof, wall, tree])
    cloud[:, :2] = cloud[:, :2].clip(0, [width - 0.01, depth - 0.01])
    cloud = np.round(np.concatenate([cloud, cloud[rng.choice(len(cloud), 200)], cloud[:1], cloud[:1]]), 2)
    return CORNER + cloud


def grid(side=0.5, width=100.0, depth=50.0):
    """Return level ground in a regular grid: every neighbourhood ends in a tie."""
    x, y = np.meshgrid(np.arange(0, width, side), np.arange(0, depth, side), indexing='ij')
    return CORNER + np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
