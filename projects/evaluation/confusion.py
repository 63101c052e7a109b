"""Confusion matrices in int64, and every score that is read off one.

Rows are the truth, columns the prediction. Counts are int64 all the way: a float32 sum stops counting at 2**24 pixels,
which is a single tile of 4096 x 4096.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from projects.engine.errors import UserError

CHUNK = 1 << 22  # pixels counted at once: bounds the int64 working copies of a large mask to some 100 MB


def confusion_numpy(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    ignore_index: int | None = 255,
    where: str = 'mask',
) -> np.ndarray:
    """Count pixels by (true class, predicted class).

    Args:
        truth: integer labels, any shape, each in ``0..num_classes-1`` or ``ignore_index``.
        prediction: integer labels, same shape. Where the truth is ``ignore_index`` they may hold anything.
        num_classes: number of classes C.
        ignore_index: truth label that is left out; ``None`` counts every pixel.
        where: what the masks are, for error messages (a file or sample name).

    Returns:
        ``(C, C)`` int64, row = truth, column = prediction.

    Raises:
        UserError: the shapes differ, or a label is outside the range.
    """
    check_same_shape(truth, prediction, where)
    counts = np.zeros(num_classes * num_classes, np.int64)
    truth, prediction = truth.reshape(-1), prediction.reshape(-1)
    for start in range(0, truth.size, CHUNK):
        t = truth[start : start + CHUNK].astype(np.int64)
        p = prediction[start : start + CHUNK].astype(np.int64)
        if ignore_index is not None:
            keep = t != ignore_index
            t, p = t[keep], p[keep]
        if t.size == 0:
            continue
        for labels, which in ((t, 'truth'), (p, 'prediction')):
            if labels.min() < 0 or labels.max() >= num_classes:
                foreign = labels[(labels < 0) | (labels >= num_classes)]
                raise UserError(_foreign(where, which, np.unique(foreign, return_counts=True), num_classes))
        counts += np.bincount(t * num_classes + p, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def confusion_torch(
    truth: torch.Tensor,
    prediction: torch.Tensor,
    num_classes: int,
    ignore_index: int | None = 255,
    where: str = 'mask',
) -> torch.Tensor:
    """Count pixels by (true class, predicted class) on the tensors' device.

    The same contract as :func:`confusion_numpy`; returns a ``(C, C)`` int64 tensor on the device of ``prediction``.
    """
    check_same_shape(truth, prediction, where)
    counts = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=prediction.device)
    truth, prediction = truth.reshape(-1).to(prediction.device), prediction.reshape(-1)
    for start in range(0, truth.numel(), CHUNK):
        t = truth[start : start + CHUNK].long()
        p = prediction[start : start + CHUNK].long()
        if ignore_index is not None:
            keep = t != ignore_index
            t, p = t[keep], p[keep]
        if t.numel() == 0:
            continue
        for labels, which in ((t, 'truth'), (p, 'prediction')):
            outside = (labels < 0) | (labels >= num_classes)
            if bool(outside.any()):
                values, number = labels[outside].unique(return_counts=True)
                raise UserError(_foreign(where, which, (values.tolist(), number.tolist()), num_classes))
        counts += torch.bincount(t * num_classes + p, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def check_same_shape(truth: np.ndarray | torch.Tensor, prediction: np.ndarray | torch.Tensor, where: str) -> None:
    """Raise a UserError that names ``where`` and both sizes, unless truth and prediction have one shape."""
    if truth.shape != prediction.shape:
        raise UserError(f'{where}: the prediction is {_size(prediction.shape)}, the truth {_size(truth.shape)}')


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix, all as fractions 0..1; NaN where a score is not defined.

    With ``tp``, ``fp``, ``fn`` the hits, false alarms and misses of a class in pixels:

    =============  ==========================  ===============================================
    score          formula                     NaN when
    =============  ==========================  ===============================================
    ``iou``        tp / (tp + fp + fn)         the class is in neither truth nor prediction
    ``f1``         2 tp / (2 tp + fp + fn)     the class is in neither truth nor prediction
    ``precision``  tp / (tp + fp)              the class is never predicted
    ``recall``     tp / (tp + fn)              the class is not in the truth
    =============  ==========================  ===============================================

    A class that is in neither truth nor prediction is left out of every mean. A class that is predicted but never
    true has IoU 0 and pulls ``mean_iou`` down; it does not touch ``mean_accuracy``.
    """

    classes: tuple[str, ...]
    background: int | None
    iou: np.ndarray  # (C,) float64, as all per-class arrays
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    truth_pixels: np.ndarray  # (C,) int64
    predicted_pixels: np.ndarray  # (C,) int64
    mean_iou: float  # mean of iou over the defined classes
    mean_iou_foreground: float  # the same without class `background` (equal to mean_iou when there is none)
    mean_f1: float
    mean_accuracy: float  # mean of recall over the classes of the truth
    overall_accuracy: float  # hits / counted pixels

    def summary(self) -> dict[str, float]:
        """Return the scalar scores under their short names."""
        return {
            'mIoU': self.mean_iou,
            'mIoU_foreground': self.mean_iou_foreground,
            'mF1': self.mean_f1,
            'OA': self.overall_accuracy,
            'mAcc': self.mean_accuracy,
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Return one row a class: name, the four scores, pixels in truth and prediction."""
        return [
            {
                'class': name,
                'IoU': float(self.iou[i]),
                'precision': float(self.precision[i]),
                'recall': float(self.recall[i]),
                'F1': float(self.f1[i]),
                'truth_pixels': int(self.truth_pixels[i]),
                'predicted_pixels': int(self.predicted_pixels[i]),
            }
            for i, name in enumerate(self.classes)
        ]


def scores(
    confusion: np.ndarray,
    classes: Sequence[str],
    background: int | None = None,
    missed: np.ndarray | None = None,
) -> Scores:
    """Read all scores off a confusion matrix.

    Args:
        confusion: ``(C, C)`` integer counts, row = truth, column = prediction.
        classes: C class names.
        background: index of the class that ``mean_iou_foreground`` leaves out of its mean. Its pixels stay in the
            matrix: a road seen in the background still is a false alarm of road.
        missed: ``(C,)`` integer pixels of each true class that got no prediction: misses of that class, and false
            alarms of none.

    Raises:
        ValueError: the matrix is not C x C integers, ``missed`` not C integers, or ``background`` is no class.
    """
    confusion = np.asarray(confusion)
    number = len(classes)
    if confusion.shape != (number, number):
        raise ValueError(f'expected a {number} x {number} confusion matrix for {number} classes, '
                         f'found shape {confusion.shape}')
    if confusion.dtype.kind not in 'iu':
        raise ValueError(f'expected integer counts, found {confusion.dtype}')
    if background is not None and not 0 <= background < number:
        raise ValueError(f'background = {background} is not a class index (0..{number - 1})')
    missed = np.zeros(number, np.int64) if missed is None else np.asarray(missed)
    if missed.shape != (number,) or missed.dtype.kind not in 'iu':
        raise ValueError(f'expected {number} integer counts of missed pixels, found {missed.dtype} {missed.shape}')
    confusion = confusion.astype(np.int64)
    hits = np.diagonal(confusion)
    truth, predicted = confusion.sum(axis=1) + missed.astype(np.int64), confusion.sum(axis=0)
    iou = _ratio(hits, truth + predicted - hits)
    recall = _ratio(hits, truth)
    f1 = _ratio(2 * hits, truth + predicted)
    foreground = np.ones(number, bool)
    if background is not None:
        foreground[background] = False
    total = int(truth.sum())
    return Scores(
        classes=tuple(classes), background=background,
        iou=iou, precision=_ratio(hits, predicted), recall=recall, f1=f1,
        truth_pixels=truth, predicted_pixels=predicted,
        mean_iou=nanmean(iou), mean_iou_foreground=nanmean(iou[foreground]), mean_f1=nanmean(f1),
        mean_accuracy=nanmean(recall), overall_accuracy=int(hits.sum()) / total if total else math.nan,
    )


def nanmean(values: np.ndarray) -> float:
    """Return the mean of the finite entries, NaN (without a warning) when there is none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    result = np.full(len(part), math.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _size(shape: Sequence[int]) -> str:
    """Tell an array's size the way image sizes are told: width x height."""
    return 'x'.join(str(side) for side in (*reversed(shape[-2:]), *reversed(shape[:-2])))


def _foreign(where: str, which: str, found: tuple[Sequence[int], Sequence[int]], num_classes: int) -> str:
    labels = ', '.join(f'{int(label)} ({int(count)} px)' for label, count in list(zip(*found))[:8])
    return f'{where}: the {which} holds labels outside 0..{num_classes - 1}: {labels}'
