"""Heat-map AP and F (APH, FH): how well drawn lines cover drawn true lines, whatever their ends are.

Lines are drawn one cell wide on the grid of the 128 scale. At each of :data:`THRESHOLDS` the cells of the predicted
lines that score at least as much are matched with the cells of the true lines, one to one, within 0.01 of the
diagonal (1.8 cells of 128 x 128), as the boundary benchmark's ``correspondPixels`` does. Precision is the matched
share of the predicted cells, recall of the true ones, both over all images together; FH is the best F of a threshold
and APH the area below the curve.

The matching is an exact one (maximum cardinality): by distance transforms alone every cell near a true line would be
right, and two parallel lines beside a true one would count as good as one. It is found as a flow, by Dinic's algorithm
in ``scipy.sparse.csgraph``, which takes milliseconds on this grid; SciPy's ``maximum_bipartite_matching`` is quicker at
its best, but exponential at its worst (scipy issue 26147): 110 s for one image of 200 long lines.
"""

import math

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from projects.roofline.metrics.average_precision import curve_area

THRESHOLDS = (0.01, 0.02, 0.05, *(round(0.05 * step, 2) for step in range(2, 20)), 0.98, 0.99)
TOLERANCE = 0.01  # of the grid's diagonal


def heat_counts(predicted: np.ndarray, scores: np.ndarray, truth: np.ndarray, shape: tuple[int, int],
                thresholds: tuple[float, ...] = THRESHOLDS, tolerance: float = TOLERANCE) -> np.ndarray:
    """Count the cells of one image's lines at each threshold of the score.

    Args:
        predicted: ``(L, 2, 2)`` ends (x, y) in cells.
        scores: ``(L,)``.
        truth: ``(T, 2, 2)`` ends in cells.
        shape: (height, width) of the grid.
        thresholds: increasing.
        tolerance: how far two matched cells may be apart, as a share of the diagonal.

    Returns:
        ``(thresholds, 3)`` int64: matched, predicted and true cells.
    """
    levels = draw_levels(predicted, np.searchsorted(thresholds, scores, side='right'), shape)  # how many it reaches
    true_cells = draw_levels(truth, np.ones(len(truth), np.int64), shape) > 0
    predicted_number = np.bincount(levels.ravel(), minlength=len(thresholds) + 1)[::-1].cumsum()[::-1][1:]
    counts = np.zeros((len(thresholds), 3), np.int64)
    counts[:, 1], counts[:, 2] = predicted_number, true_cells.sum()
    links = _Links(true_cells, tolerance * math.hypot(*shape))
    for index in reversed(range(len(thresholds))):
        above = index + 1
        if above < len(thresholds) and predicted_number[above] == predicted_number[index]:
            counts[index, 0] = counts[above, 0]  # the same cells
        else:
            counts[index, 0] = links.match(levels > index)
    return counts


def heat_map_scores(counts: np.ndarray) -> tuple[float, float]:
    """Return APH and FH, 0..1, of :func:`heat_counts` summed over images; NaN where no true line was drawn."""
    matched, predicted, truth = counts.T.astype(np.float64)
    if not truth.max(initial=0.0):
        return math.nan, math.nan
    recall, precision = matched / truth, matched / np.maximum(predicted, 1)
    return curve_area(recall, precision), float((2 * matched / (predicted + truth)).max())


def draw_levels(lines: np.ndarray, levels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Draw lines one cell wide: in each column (steep lines: row) that a line spans, the cell it has in the middle.

    Args:
        lines: ``(L, 2, 2)`` ends (x, y) in cells, origin at the corner; moved into the grid.
        levels: ``(L,)`` int64 above 0; lines of level 0 are not drawn. Where lines cross, the highest level stays.
        shape: (height, width).

    Returns:
        ``(height, width)`` int64, 0 where no line is.
    """
    grid = np.zeros(shape, np.int64)
    drawn = levels > 0
    lines, levels = np.clip(lines[drawn], 0, np.array(shape[::-1])), levels[drawn]
    span = np.abs(lines[:, 1] - lines[:, 0])
    steep = span[:, 1] > span[:, 0]
    lines = np.where(steep[:, None, None], lines[:, :, ::-1], lines)  # (along, across) for all
    backwards = lines[:, 0, 0] > lines[:, 1, 0]
    start, end = (np.where(backwards[:, None], lines[:, b], lines[:, a]) for a, b in ((0, 1), (1, 0)))
    length = np.maximum(np.where(steep, shape[0], shape[1]), 1)
    first = np.minimum(np.floor(start[:, 0]).astype(np.int64), length - 1)
    last = np.minimum(np.floor(end[:, 0]).astype(np.int64), length - 1)
    number = last - first + 1
    line = np.repeat(np.arange(len(lines)), number)
    along = np.arange(len(line)) - np.repeat(np.cumsum(number) - number, number) + first[line]
    middle = np.clip(along + 0.5, start[line, 0], end[line, 0])
    slope = (end[:, 1] - start[:, 1]) / np.maximum(end[:, 0] - start[:, 0], 1e-9)
    width = np.where(steep, shape[1], shape[0])
    across = np.clip(np.floor(start[line, 1] + (middle - start[line, 0]) * slope[line]).astype(np.int64), 0,
                     width[line] - 1)
    rows, columns = np.where(steep[line], along, across), np.where(steep[line], across, along)
    np.maximum.at(grid, (rows, columns), levels[line])
    return grid


class _Links:
    """Which cells are near which true cells; finds the largest one-to-one matching for a set of cells."""

    def __init__(self, truth: np.ndarray, radius: float) -> None:
        reach = math.floor(radius)
        steps = np.mgrid[-reach:reach + 1, -reach:reach + 1].reshape(2, -1)
        steps = steps[:, (steps ** 2).sum(axis=0) <= radius ** 2]
        rows, columns = np.nonzero(truth)
        near = rows[:, None] + steps[0], columns[:, None] + steps[1]  # (true cells, steps)
        inside = (near[0] >= 0) & (near[0] < truth.shape[0]) & (near[1] >= 0) & (near[1] < truth.shape[1])
        self.owner = np.nonzero(inside)[0]
        self.cell = near[0][inside] * truth.shape[1] + near[1][inside]

    def match(self, cells: np.ndarray) -> int:
        """Return how many of ``cells`` ``(h, w)`` bool have a true cell of their own."""
        kept = cells.ravel()[self.cell]
        if not kept.any():
            return 0
        owner, true_number = _numbered(self.owner[kept])
        cell, number = _numbered(self.cell[kept])
        source, sink = true_number + number, true_number + number + 1
        tails = np.concatenate([np.full(true_number, source), owner, true_number + np.arange(number)])
        heads = np.concatenate([np.arange(true_number), true_number + cell, np.full(number, sink)])
        graph = csr_matrix((np.ones(len(tails), np.int32), (tails, heads)), shape=(sink + 1, sink + 1))
        return int(maximum_flow(graph, source, sink, method='dinic').flow_value)


def _numbered(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return values as places among those that occur, and how many these are."""
    occurring, places = np.unique(values, return_inverse=True)
    return places, len(occurring)
