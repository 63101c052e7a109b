"""From probabilities to one class: first what a point is, then which part of it.

A network that was taught "some building part" spreads a building's probability over 23 leaves, so that the most
probable leaf may be ground although building is. So the coarse class with the largest sum is chosen, and the most
probable leaf in it. Classified tiles are decided so; a test's ``pred_sem_seg`` is the plain arg max, since
calibration compares the largest probability with how often its own class is right.
"""

import numpy as np

from projects.lidar.classes import LABEL_TO_COARSE, LOD3
from projects.lidar.metrics.point_scores import coarse_table


def decide(probabilities: np.ndarray) -> np.ndarray:
    """Return the class of each point.

    Args:
        probabilities: ``(n, 30)`` of the LOD3 classes; of any other number of classes the most probable one is taken.

    Returns:
        ``(n,)`` class indices.
    """
    if probabilities.shape[1] != len(LOD3):
        return probabilities.argmax(axis=1)
    coarse = (probabilities @ coarse_table()).argmax(axis=1)
    return np.where(coarse[:, None] == LABEL_TO_COARSE[:len(LOD3)], probabilities, -1).argmax(axis=1)
