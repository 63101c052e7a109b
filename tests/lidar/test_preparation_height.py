"""Height above the local ground: on slopes, under houses, without a classification."""

import numpy as np
import pytest

from projects.lidar.preparation.height import find_ground, height_above_ground, known_heights


def slope_with_a_house(rng, slope=0.3, side=20.0):
    """Return coordinates ``(n, 3)``, which are ground, and their true heights: a house hides its ground."""
    flat = rng.uniform(0, 60, (20_000, 2))
    house = (np.abs(flat - 30) < side / 2).all(1)
    height = np.where(house, 6.0, 0.0)
    xyz = np.column_stack([flat, slope * flat[:, 0] + height]) + [770000.0, 6277000.0, 250.0]
    return xyz, ~house, height


@pytest.mark.parametrize('slope, ground_error, roof_error', [(0.0, 1e-4, 1e-4), (0.3, 0.05, 0.4)])
def test_heights_on_a_slope_and_above_a_house(slope, ground_error, roof_error):
    xyz, ground, truth = slope_with_a_house(np.random.default_rng(0), slope)
    found = height_above_ground(xyz, ground, np.ones(len(xyz), bool))
    assert found.dtype == np.float32
    assert np.abs(found - truth)[ground].max() < ground_error
    assert np.abs(found - truth)[~ground].max() < roof_error


def test_only_own_points_in_their_order():
    rng = np.random.default_rng(1)
    xyz, ground, _ = slope_with_a_house(rng)
    every = height_above_ground(xyz, ground, np.ones(len(xyz), bool))
    own = xyz[:, 0] < 770030
    assert height_above_ground(xyz, ground, own) == pytest.approx(every[own], abs=1e-6)
    assert len(height_above_ground(xyz, ground, np.zeros(len(xyz), bool))) == 0


def test_ground_of_an_unclassified_cloud():
    rng = np.random.default_rng(2)
    xyz, ground, truth = slope_with_a_house(rng, slope=0.05)
    tree = rng.normal(0, 1.5, (600, 3)) * [1, 1, 0.7] + [770010, 6277050, 256]
    cloud = np.concatenate([xyz, tree, [[770050.0, 6277010.0, 190.0]]])  # a stray echo 60 m below
    found = find_ground(cloud)
    assert found[:len(xyz)][ground].mean() > 0.95
    assert not found[:len(xyz)][~ground].any()
    assert not found[len(xyz):].any()
    heights = height_above_ground(cloud, None, np.ones(len(cloud), bool))[:len(xyz)]
    assert np.abs(heights - truth).max() < 0.3
    none = height_above_ground(cloud, np.zeros(len(cloud), bool), np.ones(len(cloud), bool))[:len(xyz)]
    assert np.array_equal(none, heights)  # a classification without ground is none


def test_ground_that_may_lie_outside_is_not_known():
    xyz, ground, _ = slope_with_a_house(np.random.default_rng(3))
    _, known = known_heights(xyz, ground, np.ones(len(xyz), bool))
    inner = (np.abs(xyz[:, :2] - [770030, 6277030]) < 18).all(1)
    rim = (np.abs(xyz[:, :2] - [770030, 6277030]) > 29).any(1)
    assert known[inner & ground].mean() > 0.9
    assert not known[rim].any()


def test_ground_of_the_buffer_alone_is_none():
    xyz, ground, _ = slope_with_a_house(np.random.default_rng(5))
    own = xyz[:, 0] < 770050
    assert np.array_equal(height_above_ground(xyz, ground & ~own, own), height_above_ground(xyz, None, own))


def test_known_heights_of_an_unclassified_cloud_are_those_of_a_larger_one():
    rng = np.random.default_rng(6)
    flat = rng.uniform(0, (300, 160), (60_000, 2))
    barn = (np.abs(flat - [180, 80]) < [14.5, 20]).all(1)  # cut, it looks like a hill that goes on
    xyz = np.column_stack([flat, 0.1 * flat[:, 0] + 9.0 * barn + rng.normal(0, 0.1, len(flat))]).round(2) + 1000.0
    merged = height_above_ground(xyz, None, np.ones(len(xyz), bool))
    rows = np.flatnonzero(xyz[:, 0] < 1185)
    found, known = known_heights(xyz[rows], None, xyz[rows, 0] < 1170)
    wrong = np.abs(found - merged[xyz[:, 0] < 1170]) > 1e-5
    assert wrong.sum() > 100 and not wrong[known].any() and known.sum() > 1000


@pytest.mark.parametrize('count', [1, 2, 5])
def test_a_handful_of_points(count):
    xyz = np.random.default_rng(4).uniform(0, 3, (count, 3))
    for ground in (None, np.ones(count, bool)):
        assert np.isfinite(height_above_ground(xyz, ground, np.ones(count, bool))).all()
