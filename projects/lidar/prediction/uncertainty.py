"""What beside the class is known of a point: how sure the answer is, and how far the scales agree."""

import numpy as np


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis in nats: 0 for one certain class, log C for none better than another."""
    safe = np.maximum(probabilities, np.float32(1e-12))
    return -np.einsum('...c,...c->...', probabilities, np.log(safe))


def relative_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of (n, C) probabilities in units of log C: (n,), 0..1."""
    classes = probabilities.shape[-1]
    return np.clip(entropy(probabilities) / np.log(max(classes, 2)), 0, 1)


def disagreement(probabilities: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Return how far the scales disagree at each point, (n,) float32, 0..1.

    The Jensen-Shannon divergence of the scales' answers: the entropy of their mean less the mean of their entropies,
    in units of log(number of scales there), its largest value. 0: all say the same, or there is one scale only.
    1: each is certain of a class of its own.

    Args:
        probabilities: (S, n, C), one answer for each scale.
        covered: (S, n) bool: whether the scale says anything there.
    """
    count = covered.sum(axis=0)
    several = np.flatnonzero(count > 1)
    result = np.zeros(probabilities.shape[1], np.float32)
    if len(several):
        share = covered[:, several] / count[several]
        mean = np.einsum('sn,snc->nc', share, probabilities[:, several])
        single = np.einsum('sn,sn->n', share, entropy(probabilities[:, several]))
        result[several] = np.clip((entropy(mean) - single) / np.log(count[several]), 0, 1)
    return result
