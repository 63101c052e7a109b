"""Exact neighbours: the answer of brute force, with ties to the lower rank, however the search came to them."""

import numpy as np
import pytest
from small_clouds import grid, town

from projects.lidar.preparation.cells import iter_cells
from projects.lidar.preparation.neighbours import k_nearest


def brute_force(points, k):
    away = points[:, None].astype(np.float64) - points[None]
    squared = (away ** 2).sum(2)
    order = np.lexsort((np.broadcast_to(np.arange(len(points)), squared.shape), squared), axis=1)[:, :k]
    return np.sort(order, axis=1), np.sort(squared, axis=1)[:, :k]


@pytest.mark.parametrize('k', [1, 4, 8, 20])
@pytest.mark.parametrize('cloud', ['grid', 'town', 'duplicates'])
def test_neighbours_are_those_of_brute_force(cloud, k):
    rng = np.random.default_rng(0)
    xyz = {'grid': lambda: grid(0.25, 6, 6), 'town': lambda: town(rng, 20, 30, 1.0),
           'duplicates': lambda: np.repeat(grid(1.0, 6, 6), 9, axis=0)}[cloud]()
    cell = next(iter_cells(xyz, np.ones(len(xyz), bool), 0.0))
    index, squared = k_nearest(cell.units, k)
    expected, distance = brute_force(cell.units, k)
    assert np.array_equal(np.sort(index, axis=1), expected)
    assert np.allclose(squared, distance, rtol=1e-6)


def test_as_many_neighbours_as_there_are():
    points = np.array([[0, 0, 0], [1, 0, 0], [4, 0, 0]], np.float32)
    index, squared = k_nearest(points, 20)
    assert index.tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0]]
    assert squared.tolist() == [[0, 1, 16], [0, 1, 9], [0, 9, 16]]
    assert k_nearest(points, 2, points[:0])[0].shape == (0, 2)


def test_cells_hold_every_own_point_once_and_everything_around():
    rng = np.random.default_rng(1)
    xyz = town(rng, 120, 60, 2.0) + [17.0, -33.0, 0]
    own = xyz[:, 0] < xyz[:, 0].mean()
    seen = np.zeros(len(xyz), int)
    for cell in iter_cells(xyz, own, 8.0):
        seen[cell.index[cell.own]] += 1
        middle = np.floor(xyz[cell.index[cell.own], :2].mean(0) / 50) * 50 + 25
        mine = xyz[cell.index[cell.own], :2] - middle
        assert np.abs(mine).max() <= 25
        low, high = mine.min(0) - 8, mine.max(0) + 8
        around = xyz[:, :2] - middle
        assert len(cell.index) == ((around >= low - 1e-6) & (around <= high + 1e-6)).all(1).sum()
        assert np.allclose(cell.local[:, :2], around[cell.index], atol=6e-5)
    assert np.array_equal(seen, own.astype(int))


def test_the_order_of_a_cell_is_that_of_its_places():
    rng = np.random.default_rng(2)
    xyz = town(rng, 50, 50, 2.0)
    mixed = rng.permutation(len(xyz))
    one, other = (next(iter_cells(cloud, np.ones(len(cloud), bool), 8.0)) for cloud in (xyz, xyz[mixed]))
    assert np.array_equal(one.units, other.units)
    high = np.concatenate([xyz, xyz[:1] + [0, 0, 5e5]])  # packed keys no longer hold such a range of heights
    far = next(iter_cells(high, np.ones(len(high), bool), 8.0))
    assert np.array_equal(far.units[far.index < len(xyz)][:, :2], one.units[:, :2])


def test_no_own_points_no_cells():
    assert list(iter_cells(grid(5.0), np.zeros(200, bool), 8.0)) == []
