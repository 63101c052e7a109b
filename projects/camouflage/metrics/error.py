"""The mean absolute error."""

from projects.camouflage.metrics.pair import Pair


def mean_absolute_error(pair: Pair) -> float:
    """Return the mean distance of the normalised prediction from the truth, 0..1 (0 is perfect)."""
    return float(pair.foreground @ (1 - pair.levels) + pair.background @ pair.levels) / pair.size
