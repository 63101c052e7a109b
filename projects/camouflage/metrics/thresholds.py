"""How much of a prediction lies above a threshold: inside and outside the object."""

import numpy as np

from projects.camouflage.metrics.pair import Pair


def counts_by_threshold(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted pixels in and outside the object at the thresholds 255, 254, … 0, each (256,) int64.

    The normalised prediction is cut down to 256 steps again (255 x value, without its fraction).
    """
    steps = (pair.levels * 255).astype(np.uint8)
    return tuple(np.cumsum(np.bincount(steps, weights=counts, minlength=256)[::-1]).astype(np.int64)
                 for counts in (pair.foreground, pair.background))


def at_least(pair: Pair, threshold: float) -> np.ndarray:
    """Return which grey values lie at or above a threshold of the normalised prediction, (256,) bool."""
    return pair.levels >= threshold


def counts_above(pair: Pair, predicted: np.ndarray) -> tuple[int, int]:
    """Return the pixels in and outside the object whose grey values are predicted ones, (256,) bool."""
    return int(pair.foreground[predicted].sum()), int(pair.background[predicted].sum())
