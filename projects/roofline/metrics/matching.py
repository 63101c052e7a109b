"""Which predicted lines and junctions are hits: each truth is matched once, by the best-scored prediction near it.

As in L-CNN's evaluation (Zhou, Qi and Ma 2019), a prediction stands for the truth that is nearest to it, and is false
when that one is too far away or has been matched by a better-scored prediction already. Duplicates are false.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

SCALE = 128  # cells: the longer side of an image where lines are compared (specs/roofline.md, Metrics)


def cells_per_pixel(size: tuple[int, int]) -> float:
    """Return the factor from pixels of an image of ``size`` (height, width) to the 128 scale; it is one for x and y."""
    return SCALE / max(size)


@dataclass(frozen=True, eq=False)
class RankedLines:
    """The lines of one image, best first, and which of them hit at each threshold."""

    scores: np.ndarray  # (L,) descending
    hits: np.ndarray  # (thresholds, L) bool
    nearest: np.ndarray  # (L,) int64 index of the nearest true line; -1 where there is none
    errors: np.ndarray  # (L,) mean distance of the two ends from those of the nearest true line, cells
    order: np.ndarray  # (L,) int64 where each line stood before it was ranked


def line_distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the squared distances of two ends from two ends, summed, of the better pairing, ``(P, T)``.

    Args:
        predicted: ``(P, 2, 2)`` ends of lines.
        truth: ``(T, 2, 2)``.
    """
    predicted = ordered_ends(predicted).reshape(-1, 4)  # so that the order of ends changes no last bit
    straight, crossed = ordered_ends(truth), ordered_ends(truth)[:, ::-1]
    return np.minimum(*(cdist(predicted, ends.reshape(-1, 4), 'sqeuclidean') for ends in (straight, crossed)))


def match_lines(predicted: np.ndarray, scores: np.ndarray, truth: np.ndarray, thresholds: tuple[float, ...]
                ) -> RankedLines:
    """Rank lines by score and find the hits.

    Lines of equal score are ranked by their ends, so that the result depends neither on the order of the lines nor on
    that of their ends.

    Args:
        predicted: ``(L, 2, 2)`` ends in cells.
        scores: ``(L,)``.
        truth: ``(T, 2, 2)`` ends in cells.
        thresholds: what the :func:`line_distances` of a hit is below.
    """
    predicted = ordered_ends(predicted)
    order = np.lexsort((*predicted.reshape(-1, 4).T[::-1], -scores))
    predicted, scores = predicted[order], scores[order]
    if not len(truth) or not len(predicted):
        none = np.zeros(len(predicted))
        return RankedLines(scores, np.zeros((len(thresholds), len(predicted)), bool),
                           none.astype(np.int64) - 1, none + np.nan, order)
    distances = line_distances(predicted, truth)
    nearest = distances.argmin(axis=1)
    closest = np.take_along_axis(distances, nearest[:, None], axis=1)[:, 0]
    matched = truth[nearest]
    straight = np.linalg.norm(predicted - matched, axis=2)  # (L, 2)
    crossed = np.linalg.norm(predicted - matched[:, ::-1], axis=2)
    better = (straight ** 2).sum(axis=1) <= (crossed ** 2).sum(axis=1)
    errors = np.where(better[:, None], straight, crossed).mean(axis=1)
    return RankedLines(scores, _first_hits(nearest, closest, thresholds), nearest, errors, order)


def match_junctions(predicted: np.ndarray, scores: np.ndarray, truth: np.ndarray, thresholds: tuple[float, ...],
                    types: np.ndarray | None = None, true_types: np.ndarray | None = None
                    ) -> tuple[np.ndarray, np.ndarray]:
    """Rank junctions by score, equal ones by place, and find the hits.

    Args:
        predicted: ``(J, 2)`` in cells.
        scores: ``(J,)``.
        truth: ``(T, 2)`` in cells.
        thresholds: what the distance of a hit is below, cells.
        types, true_types: ``(J,)`` and ``(T,)``; where both are given, only junctions of one type match.

    Returns:
        The scores ``(J,)``, descending, and the hits ``(thresholds, J)`` bool.
    """
    order = np.lexsort((*predicted.T[::-1], -scores))
    if not len(truth) or not len(predicted):
        return scores[order], np.zeros((len(thresholds), len(predicted)), bool)
    distances = cdist(predicted[order], truth)
    if types is not None and true_types is not None:
        distances[types[order][:, None] != true_types] = np.inf
    nearest = distances.argmin(axis=1)
    return scores[order], _first_hits(nearest, distances.min(axis=1), thresholds)


def _first_hits(nearest: np.ndarray, distances: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """Return ``(thresholds, n)`` bool: the first prediction near enough to each truth."""
    hits = np.zeros((len(thresholds), len(nearest)), bool)
    for row, threshold in zip(hits, thresholds):
        near = np.flatnonzero(distances < threshold)
        row[near[np.unique(nearest[near], return_index=True)[1]]] = True
    return hits


def ordered_ends(lines: np.ndarray) -> np.ndarray:
    """Return lines ``(L, 2, 2)`` with the end of the smaller x (then y) first."""
    first, second = lines[:, 0], lines[:, 1]
    swapped = (first[:, 0] > second[:, 0]) | ((first[:, 0] == second[:, 0]) & (first[:, 1] > second[:, 1]))
    return np.where(swapped[:, None, None], lines[:, ::-1], lines)
