"""Which building a point is to be judged with, and so whether it belongs to a small or a large one."""

import numpy as np

CELL = 0.5  # metres; the grid of the footprints


def area_nearby(xy: np.ndarray, building_area: np.ndarray, margin: float = 2.0, cell: float = CELL) -> np.ndarray:
    """Return the footprint area of the building that each point belongs to or lies beside.

    A false alarm lies beside a building, not in it. Counting it with the nearest building within ``margin`` gives
    an IoU, and not a recall, by size of building.

    Args:
        xy: ``(n, 2)`` metres, not absolute Lambert-93 in float32.
        building_area: ``(n,)`` m²; 0 for points of no building.
        margin: Metres on the ground.
        cell: Side of the grid cells in which distances are measured, metres.

    Returns:
        ``(n,)`` float32 m²; 0 far from any building.
    """
    from scipy.ndimage import distance_transform_edt

    area = np.array(building_area, np.float32)
    inside = area > 0
    if not inside.any() or inside.all() or margin <= 0:
        return area
    index = np.floor((xy - xy.min(axis=0)) / cell).astype(np.int64)
    shape = tuple(index.max(axis=0) + 1)
    flat = index[:, 0] * shape[1] + index[:, 1]
    grid = np.zeros(shape[0] * shape[1], np.float32)
    np.maximum.at(grid, flat[inside], area[inside])
    grid = grid.reshape(shape)
    distance, nearest = distance_transform_edt(grid == 0, sampling=cell, return_indices=True)
    beside = np.where(distance <= margin, grid[tuple(nearest)], 0).reshape(-1)
    area[~inside] = beside[flat[~inside]]
    return area
