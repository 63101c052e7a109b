"""Intersection over union."""

from projects.camouflage.metrics.pair import Pair

HALF = 128  # the smallest grey value that stands for a probability of at least one half


def intersection_over_union(pair: Pair) -> float:
    """Return the overlap of the object with the prediction at one half, 0..1.

    The prediction is taken as it is, before min-max: what the network itself would call object (grey value >= 128, a
    probability >= 0.5). Nothing predicted where there is nothing is 1. PySODMetrics' standard set has no such
    measure.
    """
    hits, alarms = int(pair.foreground[HALF:].sum()), int(pair.background[HALF:].sum())
    union = int(pair.foreground.sum()) + alarms
    return hits / union if union else 1.0
