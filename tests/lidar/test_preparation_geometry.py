"""Features of neighbourhoods against plain float64 eigenvalues, and where no eigenvalue tells anything."""

import numpy as np
import pytest
from small_clouds import grid, town

from projects.lidar.preparation.cells import UNIT, iter_cells
from projects.lidar.preparation.geometry import covariance, eigen_features, log_density, shapes
from projects.lidar.preparation.neighbours import k_nearest


def plain_features(points, index):
    """Return the features of the spec in float64, and how far apart the eigenvalues are, as shares of the first."""
    places = points.astype(np.float64)[index]
    away = places - places.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum('qki,qkj->qij', away, away) / index.shape[1])
    third, second, first = values.T.clip(0)
    normal = vectors[:, :, 0] * np.where(vectors[:, 2, :1] < 0, -1, 1)
    return np.column_stack([
        (first - second) / first, (second - third) / first, third / first, (first - third) / first,
        third / (first + second + third), 1 - np.abs(normal[:, 2]), normal]), (second - third) / first


def cell_of(xyz):
    return next(iter_cells(xyz, np.ones(len(xyz), bool), 0.0))


def test_features_are_those_of_plain_eigenvalues():
    units = cell_of(town(np.random.default_rng(0), 50, 50, 2.0)).units
    index = k_nearest(units, 20)[0]
    found = eigen_features(units, index)
    expected, gap = plain_features(units * UNIT, index)
    assert np.abs(found - expected)[:, :5].max() < 1e-5
    clear = gap > 0.01  # else the normal may be any in a plane
    assert clear.mean() > 0.95
    assert np.abs(found[clear, 5] - expected[clear, 5]).max() < 2e-5
    level = np.abs(expected[:, 8]) < 1e-6  # up and down are the same there
    assert np.abs(found - expected)[clear & ~level, 6:].max() < 5e-5


def test_a_plane_a_wall_and_a_line():
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.uniform(-1, 1, (30, 2)), np.zeros(30)])
    line = np.linspace(-1, 1, 30)[:, None] * np.array([[1.0, 2.0, 2.0]]) / 3
    for places, normal, verticality in ((flat, [0, 0, 1], 0), (flat[:, [2, 0, 1]], [1, 0, 0], 1),
                                        (-flat[:, [0, 2, 1]], [0, 1, 0], 1),
                                        (line, [-2 / 45 ** 0.5, -4 / 45 ** 0.5, 5 / 45 ** 0.5], None)):
        points = places.astype(np.float32) * 10_000
        found = eigen_features(points, np.arange(30)[None], points[:1])[0]
        assert found[6:] == pytest.approx(normal, abs=2e-3)
        assert found[2] == pytest.approx(0, abs=1e-6)
        if verticality is None:
            assert found[[0, 1]] == pytest.approx([1, 0], abs=1e-4)
        else:
            assert found[5] == pytest.approx(verticality, abs=1e-5)


def test_an_upright_line_and_a_ball_have_a_normal_of_length_one():
    upright = np.column_stack([np.zeros(9), np.zeros(9), np.arange(9)]).astype(np.float32) * 100
    cube = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, 8).T.astype(np.float32) * 1000
    for points in (upright, cube):
        found = eigen_features(points, np.arange(len(points))[None], points[:1])[0]
        assert np.isfinite(found).all()
        assert np.linalg.norm(found[6:]) == pytest.approx(1, abs=1e-6)
    assert found[2] == pytest.approx(1, abs=1e-5)


def test_fewer_than_four_places_have_no_shape():
    places = np.repeat(np.array([[0, 0, 0], [100, 0, 0], [0, 100, 0]], np.float32), 7, axis=0)
    assert not eigen_features(places, np.tile(np.arange(21), (21, 1))).any()
    assert not eigen_features(places[:3], np.tile(np.arange(3), (3, 1))).any()
    four = np.concatenate([places, [[0, 0, 100]]]).astype(np.float32)
    assert eigen_features(four, np.tile(np.arange(22), (22, 1))).any(axis=1).all()
    same = np.zeros((20, 3), np.float32)
    assert not eigen_features(same, np.tile(np.arange(20), (20, 1))).any()


def test_few_places_hide_behind_equal_sums():
    # 3x + 5y + 7z is the same for all: the quick look must not take them for one place.
    points = np.array([[0, 0, 0], [5, -3, 0], [7, 0, -3], [0, 7, -5], [10, -6, 0], [14, 0, -6]], np.float32) * 100
    assert eigen_features(points, np.tile(np.arange(6), (6, 1))).any(axis=1).all()


def test_order_of_neighbours_and_origin_change_no_bit():
    rng = np.random.default_rng(3)
    units = cell_of(town(rng, 50, 50, 1.0)).units
    index = k_nearest(units, 20)[0]
    found = eigen_features(units, index)
    assert np.array_equal(found, eigen_features(units, rng.permuted(index, axis=1)))
    moved = units + np.array([2 ** 20, -2 ** 21, 2 ** 22], np.float32)
    assert np.array_equal(found, eigen_features(moved, index))


def test_density_is_that_of_the_disc():
    assert log_density(np.array([1.0, 0.0]), 20) == pytest.approx(np.log1p([20 / np.pi, 20 / np.pi * 1e4]))
    units = cell_of(grid(0.5, 40, 40)).units
    middle = (np.abs(units[:, :2]) < 1e5).all(1) & (np.arange(len(units)) % 7 == 0)
    farthest = np.sqrt(k_nearest(units, 21, units[middle])[1][:, -1]) * UNIT
    assert np.expm1(log_density(farthest, 21)) == pytest.approx(4, rel=0.4)


def test_shapes_of_a_known_ellipsoid():
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    matrix = turned @ np.diag([9.0, 4.0, 1.0]) @ turned.T
    found = shapes(matrix[np.triu_indices(3)][:, None])[0]
    assert found[:5] == pytest.approx([5 / 9, 3 / 9, 1 / 9, 8 / 9, 1 / 14], abs=1e-6)
    normal = turned[:, 2] * np.sign(turned[2, 2])
    assert found[6:] == pytest.approx(normal, abs=1e-6)
    assert found[5] == pytest.approx(1 - normal[2], abs=1e-6)
    assert covariance([np.array([[0, 2.0]], np.float32)] * 3)[:, 0].tolist() == [1.0] * 6
