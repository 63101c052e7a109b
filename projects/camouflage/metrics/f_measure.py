"""The F-measure of binary maps, over all thresholds and at an adaptive one."""

import numpy as np

from projects.camouflage.metrics.pair import Pair
from projects.camouflage.metrics.thresholds import at_least, counts_above, counts_by_threshold

BETA_SQUARED = 0.3  # precision counts more than recall


def f_curve(pair: Pair) -> np.ndarray:
    """Return the F-measure at the thresholds 255, 254, … 0 of the normalised prediction, (256,) float64.

    Source: Achanta et al., Frequency-tuned Salient Region Detection, CVPR 2009, with beta squared = 0.3; 0 where
    nothing is hit.
    """
    return _f(*counts_by_threshold(pair), int(pair.foreground.sum()))


def adaptive_f(pair: Pair) -> float:
    """Return the F-measure at twice the prediction's mean."""
    return float(_f(*counts_above(pair, at_least(pair, pair.adaptive_threshold)), int(pair.foreground.sum())))


def _f(hits: np.ndarray, alarms: np.ndarray, objects: int) -> np.ndarray:
    hits, alarms = np.asarray(hits, np.float64), np.asarray(alarms, np.float64)
    # (1 + b) P R / (b P + R) with P = hits / (hits + alarms) and R = hits / objects
    below = BETA_SQUARED * objects + hits + alarms
    return np.divide((1 + BETA_SQUARED) * hits, below, out=np.zeros_like(below), where=below > 0)
