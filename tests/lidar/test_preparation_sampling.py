"""Farthest-point order: every point once, prefixes spread, the rest shuffled by a seed."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from projects.lidar.preparation.sampling import farthest_point_order


def plain_order(points, count):
    away = points - points.mean(0)
    chosen = [int(np.argmin((away ** 2).sum(1)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(np.argmax(nearest)))
    return chosen


@pytest.mark.parametrize('n', [0, 1, 2, 3, 100, 127, 128, 500])
@pytest.mark.parametrize('share', [0, 0.3, 1, 2])
def test_every_point_once(n, share):
    points = np.random.default_rng(n).random((n, 3)).astype(np.float32)
    order = farthest_point_order(points, int(n * share))
    assert order.dtype == np.uint32
    assert np.array_equal(np.sort(order), np.arange(n))


def test_the_head_is_plain_farthest_point_sampling():
    points = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32) * [20, 20, 3]
    order = farthest_point_order(points.astype(np.float32), 300)
    assert order[:300].tolist() == plain_order(points.astype(np.float32), 300)


def test_prefixes_cover_the_cloud():
    points = np.random.default_rng(1).random((8000, 3)).astype(np.float32) * [50, 50, 5]
    order = farthest_point_order(points.astype(np.float32), 2000)
    for size in (125, 500, 2000):
        reach = [cKDTree(points[rows]).query(points)[0].max() for rows in (order[:size], np.arange(size))]
        assert reach[0] < 0.7 * reach[1]


def test_duplicates_come_after_every_place():
    places = np.random.default_rng(2).random((50, 3)).astype(np.float32)
    order = farthest_point_order(np.repeat(places, 10, axis=0), 300)
    assert len(set((order[:50] // 10).tolist())) == 50
    assert np.array_equal(np.sort(order), np.arange(500))
    assert np.array_equal(np.sort(farthest_point_order(np.zeros((40, 3), np.float32), 20)), np.arange(40))


def test_the_seed_shuffles_the_rest_alone():
    points = np.random.default_rng(3).random((900, 3)).astype(np.float32)
    one, same, other = (farthest_point_order(points, 200, seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert np.array_equal(one[:200], other[:200])
    assert not np.array_equal(one[200:], other[200:])
    assert np.corrcoef(one[200:], np.arange(700))[0, 1] < 0.1
