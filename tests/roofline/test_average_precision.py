"""Interpolated AP of tiny rankings and curves, by hand."""

import math

import numpy as np
import pytest

from projects.roofline.metrics.average_precision import average_precision, curve_area, pooled_average_precision


@pytest.mark.parametrize(('hits', 'truths', 'area'), [
    ([1, 0, 1], 3, (1 + 2 / 3) / 3),  # precision 1, 1/2, 2/3; the third truth is never found
    ([0, 1, 1], 2, (2 / 3 + 2 / 3) / 2),  # precision 0, 1/2, 2/3: the later 2/3 counts at the first hit too
    ([1, 1, 0, 0], 2, 1.0),
    ([0, 0], 2, 0.0),
    ([], 2, 0.0),
])
def test_by_hand(hits, truths, area):
    assert average_precision(np.array(hits, bool), truths) == pytest.approx(area, abs=1e-12)


def test_nothing_to_find():
    assert math.isnan(average_precision(np.array([False]), 0))
    assert math.isnan(pooled_average_precision([], [], 0)) and pooled_average_precision([], [], 3) == 0


def test_images_are_ranked_together_and_equal_scores_keep_the_order_of_images():
    scores = [np.array([0.9, 0.4]), np.array([0.9, 0.8])]
    hits = [np.array([True, True]), np.array([False, True])]
    # ranked: 0.9 hit, 0.9 false, 0.8 hit, 0.4 hit -> precision 1, 1/2, 2/3, 3/4
    assert pooled_average_precision(scores, hits, 3) == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)
    # the false one first: 0, 1/2, 2/3, 3/4
    assert pooled_average_precision(scores[::-1], hits[::-1], 3) == pytest.approx(3 / 4)


def test_curve():
    recall, precision = np.array([0.5, 0.25, 0.8]), np.array([0.6, 0.5, 0.4])
    # 0..0.5 at 0.6 (the better one beyond 0.25), 0.5..0.8 at 0.4, nothing beyond
    assert curve_area(recall, precision) == pytest.approx(0.5 * 0.6 + 0.3 * 0.4)
    assert curve_area(np.zeros(3), np.zeros(3)) == 0
