"""One answer from several scales: their mean, or their mean weighted by a gate."""

import numpy as np


def merge_scales(probabilities: np.ndarray, covered: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted mean over the scales that say anything, (n, C) float32; 0 where none does.

    Args:
        probabilities: (S, n, C), one answer for each scale.
        covered: (S, n) bool: whether the scale says anything there.
        weights: (S, n), at least 0. Default: all the same. Where the covering scales have no weight, they count alike.
    """
    share = covered.astype(np.float32) if weights is None else covered * np.asarray(weights, np.float32)
    total = share.sum(axis=0)
    if weights is not None:
        lost = (total <= 0) & covered.any(axis=0)
        share[:, lost] = covered[:, lost]
        total = share.sum(axis=0)
    share /= np.where(total > 0, total, 1)
    merged = share[0][:, None] * probabilities[0]
    for scale in range(1, len(probabilities)):
        merged += share[scale][:, None] * probabilities[scale]
    return merged
