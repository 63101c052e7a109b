"""Interpolated average precision: of ranked hits, and of a curve of thresholds."""

import math

import numpy as np


def average_precision(hits: np.ndarray, truths: int) -> float:
    """Return the area below the interpolated precision-recall curve of ranked predictions, 0..1.

    The precision at a recall is the highest one at this recall or above (all-point interpolation, as L-CNN's and VOC's
    evaluations take it), so the area is the sum of these at the hits divided by the number of truths.

    Args:
        hits: ``(n,)`` bool, whether each prediction is the match of a truth, best score first.
        truths: how many there are to find.

    Returns:
        NaN where there is nothing to find.
    """
    if truths == 0:
        return math.nan
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(highest[hits].sum() / truths)


def pooled_average_precision(scores: list[np.ndarray], hits: list[np.ndarray], truths: int) -> float:
    """Return :func:`average_precision` of several images' predictions, ranked over all of them.

    Equal scores keep their order: that of the images, and within an image the one given.

    Args:
        scores: of each image, ``(n_i,)``.
        hits: of each image, ``(n_i,)`` bool.
        truths: of all images together.
    """
    if not scores:
        return average_precision(np.zeros(0, bool), truths)
    order = np.argsort(-np.concatenate(scores), kind='stable')
    return average_precision(np.concatenate(hits)[order], truths)


def curve_area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the area below an interpolated precision-recall curve that is known at some thresholds only, 0..1.

    Beyond the highest recall the precision is 0; between two recalls it is the better one's at the higher recall or
    above (L-CNN's APH).

    Args:
        recall: ``(n,)`` 0..1 in any order.
        precision: ``(n,)`` 0..1.
    """
    order = np.argsort(recall, kind='stable')
    recall, precision = recall[order], precision[order]
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * highest).sum())
