"""Footprint areas of buildings."""

import numpy as np

from projects.lidar.preparation.footprints import footprint_areas


def square(x, y, side, step=0.25):
    axis = np.arange(step / 2, side, step)
    return np.stack(np.meshgrid(x + axis, y + axis), -1).reshape(-1, 2) + [770_000, 6_277_000]


def test_two_buildings_have_their_own_areas():
    small, large = square(0, 0, 10), square(20, 0, 16)
    areas = footprint_areas(np.concatenate([small, large]), density=16)
    assert set(areas[:len(small)].tolist()) == {100.0}
    assert set(areas[len(small):].tolist()) == {256.0}


def test_what_touches_by_a_corner_is_one_building_in_any_shape():
    parts = np.concatenate([square(0, 0, 4), square(4, 4, 4), square(0, 8, 4), square(4, 12, 4)])
    assert set(footprint_areas(parts, 16).tolist()) == {64.0}
    rng = np.random.default_rng(0)
    ring = np.concatenate([square(x, y, 0.5) for x, y in
                           {(a / 2, b / 2) for a in range(40) for b in range(40) if a in (0, 39) or b in (0, 39)}])
    assert set(footprint_areas(rng.permutation(ring), 16).tolist()) == {156 * 0.25}


def test_sparse_points_are_one_roof_and_not_many():
    rng = np.random.default_rng(1)
    roof = rng.uniform(0, 20, (800, 2))  # 2 points per m²
    areas = footprint_areas(roof, density=2)
    assert len(set(areas.tolist())) == 1
    assert 330 < areas[0] <= 441


def test_nothing_has_no_area():
    assert footprint_areas(np.zeros((0, 2)), 10).shape == (0,)
