"""The 21 numbers a network gets of a point."""

import numpy as np
import pytest

from projects.lidar.features import FEATURE_NAMES, INDEX, network_features


def features(rgb=None, nir=None, **values):
    given = {'log_density': 0.0, 'height': 0.0, 'intensity': 0, 'return_number': 1, 'number_of_returns': 1, **values}
    geometry = np.full((1, 9), 0.25)
    return network_features(geometry, *(np.array([value]) for value in given.values()), rgb, nir)[0]


def test_every_formula():
    row = features(np.array([[65535, 0, 13107]], np.uint16), np.array([13107], np.uint16), log_density=6.0, height=-5.0,
                   intensity=255, return_number=3, number_of_returns=7)
    told = dict(zip(FEATURE_NAMES, row))
    assert len(row) == len(FEATURE_NAMES) == 21
    assert told['linearity'] == told['normal_z'] == 0.25
    assert told['curvature'] == 0.75
    assert told['log_density'] == 1
    assert told['height'] == -0.5
    assert told['intensity'] == pytest.approx(0, abs=1e-6)
    assert (told['return_number'], told['number_of_returns']) == (0.5, 1)
    assert (told['red'], told['green'], told['blue'], told['nir']) == pytest.approx((1, 0, 0.2, 0.2))
    assert told['ndvi'] == pytest.approx((0.2 - 1) / 1.2)
    assert told['has_colour'] == told['has_nir'] == 1


def test_what_is_missing_is_zero_and_said_so():
    assert (features()[INDEX['red']:] == 0).all()
    row = features(nir=np.array([65535], np.uint16))
    assert (row[INDEX['nir']], row[INDEX['has_nir']], row[INDEX['has_colour']], row[INDEX['ndvi']]) == (1, 1, 0, 0)


def test_black_is_no_division_by_zero():
    row = features(np.zeros((1, 3), np.uint16), np.zeros(1, np.uint16))
    assert np.isfinite(row).all()
    assert row[INDEX['ndvi']] == 0


def test_heights_are_clipped():
    assert features(height=80.0)[INDEX['height']] == 3
    assert features(height=-40.0)[INDEX['height']] == -1
