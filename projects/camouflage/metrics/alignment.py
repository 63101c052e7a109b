"""The enhanced-alignment measure E: pixel by pixel agreement of binary maps, each taken relative to its own mean."""

import numpy as np

from projects.camouflage.metrics.pair import Pair
from projects.camouflage.metrics.thresholds import at_least, counts_above, counts_by_threshold

EPSILON = np.spacing(1)


def alignment_curve(pair: Pair) -> np.ndarray:
    """Return the E-measure at the thresholds 255, 254, … 0 of the normalised prediction, (256,) float64.

    Source: Fan et al., Enhanced-alignment Measure for Binary Foreground Map Evaluation, IJCAI 2018. A binary map
    against a binary truth has four kinds of pixels only, so that a threshold needs their four numbers, no map.
    """
    return _alignment(*counts_by_threshold(pair), int(pair.foreground.sum()), pair.size)


def adaptive_alignment(pair: Pair) -> float:
    """Return the E-measure at twice the prediction's mean."""
    return float(_alignment(*counts_above(pair, at_least(pair, pair.adaptive_threshold)),
                            int(pair.foreground.sum()), pair.size))


def _alignment(hits: np.ndarray, alarms: np.ndarray, objects: int, size: int) -> np.ndarray:
    """Return the measure.

    Args:
        hits, alarms: predicted pixels inside and outside the object, of any one shape.
        objects: the object's pixels.
        size: all pixels.
    """
    hits, alarms = np.asarray(hits, np.float64), np.asarray(alarms, np.float64)
    predicted = hits + alarms
    if objects == 0:
        total = size - predicted
    elif objects == size:
        total = predicted
    else:
        mean, share = predicted / size, objects / size
        total = (hits * _enhanced(1 - mean, 1 - share) + alarms * _enhanced(1 - mean, -share)
                 + (objects - hits) * _enhanced(-mean, 1 - share)
                 + (size - objects - alarms) * _enhanced(-mean, -share))
    return total / max(size - 1, 1)


def _enhanced(prediction: np.ndarray, truth: float) -> np.ndarray:
    """Return how well two values that are relative to their means agree, 0..1."""
    aligned = 2 * prediction * truth / (prediction**2 + truth**2 + EPSILON)
    return (aligned + 1) ** 2 / 4
