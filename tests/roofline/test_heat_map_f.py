"""APH and FH: drawn cells, exact matching, and values by hand."""

import math
import time

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from projects.roofline.metrics.heat_map import THRESHOLDS, _Links, draw_levels, heat_counts, heat_map_scores

SHAPE = (128, 128)
RADIUS = 0.01 * math.hypot(*SHAPE)  # 1.81


def line(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y1]], float)


def scores_of(predicted, scores, truth, shape=SHAPE):
    return heat_map_scores(heat_counts(
        np.reshape(predicted, (-1, 2, 2)), np.array(scores, float), np.reshape(truth, (-1, 2, 2)), shape))


def cells_of(*lines, shape=(8, 10), levels=None):
    grid = draw_levels(np.array(lines, float).reshape(-1, 2, 2),
                       np.ones(len(lines), np.int64) if levels is None else np.array(levels), shape)
    return {(int(y), int(x)): int(grid[y, x]) for y, x in zip(*np.nonzero(grid))}


def test_one_cell_a_column_or_row():
    assert set(cells_of(line(1.5, 2.5, 4.5, 2.5))) == {(2, 1), (2, 2), (2, 3), (2, 4)}
    assert set(cells_of(line(3.2, 6.9, 3.2, 4.1))) == {(4, 3), (5, 3), (6, 3)}
    # slope 1/2 from (0, 0): at the middles 0.5, 1.5, 2.5, 3.5 of the columns y is 0.25, 0.75, 1.25, 1.75
    assert set(cells_of(line(0, 0, 3.9, 1.95))) == {(0, 0), (0, 1), (1, 2), (1, 3)}
    assert set(cells_of(line(2.1, 3.1, 2.4, 3.3))) == {(3, 2)}  # shorter than a cell


def test_drawing_knows_no_direction_and_no_axis():
    rng = np.random.default_rng(0)
    lines = rng.uniform(0, 8, (40, 2, 2))
    for one in lines:
        assert cells_of(one) == cells_of(one[::-1])
        assert set(cells_of(one, shape=(8, 8))) == {(x, y) for y, x in cells_of(one[:, ::-1], shape=(8, 8))}


def test_borders_crossings_and_lines_that_are_not_drawn():
    assert set(cells_of(line(0, 8, 10, 8))) == {(7, x) for x in range(10)}  # the corner origin: 8 is the last row's end
    assert set(cells_of(line(10, 0, 10, 8))) == {(y, 9) for y in range(8)}
    crossing = cells_of(line(0.5, 2.5, 4.5, 2.5), line(2.5, 0.5, 2.5, 4.5), levels=[3, 1])
    assert crossing[2, 2] == 3 and crossing[1, 2] == 1 and len(crossing) == 9
    assert cells_of(line(0, 0, 5, 5), levels=[0]) == {}


@pytest.mark.parametrize('seed', range(6))
def test_matching_is_the_largest_one(seed):
    rng = np.random.default_rng(seed)
    cells, truth = rng.random((2, 12, 15)) < rng.uniform(0.1, 0.5, (2, 1, 1))
    near = cdist(np.argwhere(truth), np.argwhere(cells)) <= RADIUS
    rows, columns = linear_sum_assignment(near, maximize=True)
    assert _Links(truth, RADIUS).match(cells) == near[rows, columns].sum()


def test_perfect_empty_and_shifted():
    truth = [line(10.5, 20.5, 60.5, 20.5), line(10.5, 40.5, 10.5, 90.5)]
    assert scores_of(truth, [1, 1], truth) == (1, 1)
    assert scores_of([], [], truth) == (0, 0)
    assert scores_of([one + 1 for one in truth], [0.7, 0.7], truth) == (1, 1)  # sqrt(2) is within 1.81
    assert scores_of([one + [0, 2] for one in truth[:1]], [0.7], truth[:1]) == (0, 0)
    assert all(math.isnan(value) for value in scores_of(truth, [1, 1], []))  # an image alone; in a split it counts


def test_along_a_line_a_shift_costs_its_ends():
    truth = [line(10.5, 20.5, 60.5, 20.5)]  # 51 cells
    area, best = scores_of([truth[0] + [5, 0]], [0.8], truth)
    # columns 15..65 against 10..60: 46 in common, and 47 pairs one column apart, which the tolerance allows
    assert best == pytest.approx(47 / 51) and area == pytest.approx((47 / 51) ** 2)


def test_duplicates_in_parallel_are_false():
    truth = [line(10.5, 20.5, 60.5, 20.5)]
    area, best = scores_of([truth[0] + [0, -1], truth[0] + [0, 1]], [0.8, 0.8], truth)
    assert best == pytest.approx(2 / 3) and area == pytest.approx(1 / 2)  # half of the cells, all of the truth


def test_thresholds_by_hand():
    truth = [line(10.5, 20.5, 59.5, 20.5), line(10.5, 60.5, 59.5, 60.5)]  # 50 cells each
    false = line(10.5, 100.5, 59.5, 100.5)
    # 0.9: P 1, R 1/2; 0.6: P 1/2, R 1/2; 0.3: P 2/3, R 1
    area, best = scores_of([truth[0], false, truth[1]], [0.92, 0.62, 0.32], truth)
    assert best == pytest.approx(0.8) and area == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    counts = heat_counts(np.array([truth[0], false, truth[1]]), np.array([0.92, 0.62, 0.32]), np.array(truth), SHAPE)
    assert counts[THRESHOLDS.index(0.9)].tolist() == [50, 50, 100]
    assert counts[THRESHOLDS.index(0.95)].tolist() == [0, 0, 100]
    assert counts[THRESHOLDS.index(0.6)].tolist() == [50, 100, 100]
    assert counts[0].tolist() == [100, 150, 100]


def test_a_score_at_a_threshold_reaches_it():
    truth = np.array([line(10.5, 20.5, 59.5, 20.5)])
    counts = heat_counts(truth, np.array([0.5]), truth, SHAPE)
    assert counts[:, 0].tolist() == [50 * (threshold <= 0.5) for threshold in THRESHOLDS]


def test_the_tolerance_follows_the_diagonal():
    truth = [line(2.5, 5.5, 60.5, 5.5)]
    moved = [truth[0] + [0, 1]]
    assert scores_of(moved, [1], truth, (128, 128))[1] == 1
    assert scores_of(moved, [1], truth, (40, 64))[1] == 0  # 0.75 cells


@pytest.mark.parametrize(('seed', 'matched'), [(40, 6503), (52, 6156)])
def test_dense_drawings_take_no_longer(seed, matched):
    """scipy's ``maximum_bipartite_matching`` takes 13 s and 15 s for these two (scipy issue 26147)."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(5, 123, (200, 2, 2))
    predicted = np.concatenate([truth[:120] + rng.normal(0, 0.5, (120, 2, 2)), rng.uniform(0, 128, (60, 2, 2))])
    start = time.perf_counter()
    counts = heat_counts(predicted, np.ones(180), truth, SHAPE)
    assert time.perf_counter() - start < 3
    assert counts[0, 0] == matched
