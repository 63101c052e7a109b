"""Done-when 2 and 4: adjacent tiles with buffers equal the merged tile, and a shift changes nothing."""

import laspy
import numpy as np
import pytest
from small_clouds import CORNER, SCALE, grid, town

from projects.lidar.preparation.height import known_heights
from projects.lidar.preparation.point_features import compute_features


def dense(shared_data):
    """Return two adjacent dense tiles as one cloud, half of it: 28 points per square metre."""
    folder = shared_data / 'lidar/dense_150x100'
    tiles = [laspy.read(folder / f'test_data_{name}_627755_LA93_IGN69.laz') for name in ('77050', '77055')]
    xyz = np.concatenate([np.column_stack([tile.x, tile.y, tile.z]) for tile in tiles])
    return xyz[xyz[:, 1] < xyz[:, 1].min() + 25]


@pytest.fixture(params=['town', 'sparse', 'grid', 'dense'])
def cloud(request):
    rng = np.random.default_rng(0)
    if request.param == 'dense':
        return dense(request.getfixturevalue('shared_data'))
    return {'town': lambda: town(rng), 'sparse': lambda: town(rng, density=0.5), 'grid': grid}[request.param]()


def all_of(xyz, **changes):
    return compute_features(xyz, np.ones(len(xyz), bool), **{**SCALE, **changes})


def parts(xyz, cut, buffer, rng):
    """Yield rows and own points of two tiles that meet at ``cut``, in an order of their own."""
    for own in (xyz[:, 0] < cut, xyz[:, 0] >= cut):
        rows = rng.permutation(np.flatnonzero(own | (np.abs(xyz[:, 0] - cut) <= buffer)))
        yield rows, own[rows]


def differences(one, other, rows):
    """Return the largest difference of every feature of each point ``(n,)``; a flag that differs counts 1."""
    return np.maximum.reduce([
        np.abs(one.geometry - other.geometry[rows]).max(1), np.abs(one.log_density - other.log_density[rows]),
        (one.outlier != other.outlier[rows]).astype(np.float32)])


@pytest.mark.parametrize('cut', [50.0, 43.37])  # where IGN cuts, and anywhere
def test_two_tiles_with_buffers_equal_the_merged_tile(cloud, cut):
    rng = np.random.default_rng(1)
    merged = all_of(cloud)
    cut += CORNER[0]
    seen = left_out = 0
    for rows, own in parts(cloud, cut, SCALE['buffer'], rng):
        found = compute_features(cloud[rows], own, **SCALE)
        mine = rows[own]
        assert np.array_equal(found.incomplete & merged.incomplete[mine], merged.incomplete[mine])
        assert differences(found, merged, mine)[~found.incomplete].max() == 0
        seen += (~found.incomplete).sum()
        left_out += found.incomplete.sum()
    assert seen + left_out == len(cloud)
    density = len(cloud) / np.prod(np.ptp(cloud[:, :2], axis=0))
    assert left_out < len(cloud) * (0.25 if density < 2 else 0.01)


def test_without_the_buffer_the_seam_shows():
    rng = np.random.default_rng(1)
    cloud = town(rng)
    merged = all_of(cloud)
    for rows, own in parts(cloud, CORNER[0] + 50, 0.0, rng):
        found = compute_features(cloud[rows], own, **SCALE)
        wrong = differences(found, merged, rows[own])[~found.incomplete] > 1e-5
        assert wrong.sum() > 100
        near = np.abs(cloud[rows[own], 0] - CORNER[0] - 50)[~found.incomplete]
        assert near[wrong].max() < 5


def test_a_neighbourhood_that_reaches_past_the_buffer_is_incomplete():
    ground = grid(0.5, 30, 30)
    lonely = CORNER + np.array([[45.0, 15.0, 0.0], [29.5, 15.0, 0.0]])
    found = all_of(np.concatenate([ground, lonely]))
    assert found.incomplete[-2]  # its twentieth neighbour is 17 m away, and the buffer has 8 m
    assert not found.incomplete[-1]
    assert all_of(ground[:10]).incomplete.all()  # fewer than twenty points at all


def test_a_narrow_buffer_leaves_more_out():
    cloud = town(np.random.default_rng(0), density=1.0)
    left_out = [all_of(cloud, buffer=buffer).incomplete.sum() for buffer in (8.0, 3.0, 1.0)]
    assert left_out[0] < left_out[1] < left_out[2]


def test_a_shift_of_7000_km_changes_no_feature(cloud):
    before = all_of(cloud)
    for shift in ((7e6, 0, 0), (-7e6, 7e6, 0)):
        after = all_of(cloud + np.array(shift))
        assert np.abs(before.geometry - after.geometry).max() <= 1e-4
        assert np.abs(before.log_density - after.log_density).max() <= 1e-4
        assert np.array_equal(before.outlier, after.outlier)
        assert np.array_equal(before.incomplete, after.incomplete)


def test_heights_above_sea_level_change_no_feature():
    cloud = town(np.random.default_rng(0), density=3.0)
    before, after = all_of(cloud), all_of(cloud + np.array([0, 0, 3141.59]))
    assert np.array_equal(before.geometry, after.geometry)
    assert np.array_equal(before.outlier, after.outlier)


def test_order_of_the_input_changes_no_feature():
    rng = np.random.default_rng(0)
    cloud = town(rng, density=3.0)
    mixed = rng.permutation(len(cloud))
    assert differences(all_of(cloud[mixed]), all_of(cloud), mixed).max() == 0


@pytest.mark.parametrize('classified', [True, False])
def test_heights_across_a_seam_and_shifted(classified):
    rng = np.random.default_rng(2)
    cloud = town(rng)
    ground = np.abs(cloud[:, 2] - CORNER[2] - 0.05 * (cloud[:, 0] - CORNER[0])) < 0.2
    merged, _ = known_heights(cloud, ground, np.ones(len(cloud), bool))
    for rows, own in parts(cloud, CORNER[0] + 50, 8.0, rng):
        if classified:
            found, known = known_heights(cloud[rows], ground[rows], own)
            assert known.mean() > 0.5
            assert np.abs(found - merged[rows[own]])[known].max() < 1e-5
    shifted, _ = known_heights(cloud + np.array([7e6, -7e6, 0]), ground if classified else None,
                               np.ones(len(cloud), bool))
    if not classified:
        merged, _ = known_heights(cloud, None, np.ones(len(cloud), bool))
    assert np.abs(shifted - merged).max() < 1e-4
