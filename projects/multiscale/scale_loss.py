"""Supervision of each scale by itself: sum over scales of w_s L(prediction_s, target_s)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.config import nearest
from projects.engine.errors import UserError

TARGETS = ('nearest', 'area')


@MODELS.register_module()
class ScaleAwareLoss(nn.Module):
    """``loss_weight * sum_s w_s L(pred_s, target_s)``; every prediction is compared at its own resolution.

    Targets:

    - ``'nearest'``: hard labels; a cell takes the label under its centre.
    - ``'area'``: soft labels; a cell takes the share of each class among its labelled pixels (``adaptive_avg_pool2d``
      of the one-hot labels). A cell without a labelled pixel has no part in the loss.

    L is cross entropy (two channels and more) or binary cross entropy (one channel, class 1 is the foreground), mean
    over the labelled cells; 0 where there is none. ``loss`` puts any registered loss of mmseg in its place, for hard
    labels.

    The defaults are those of the project's seed document: weights 0.5 / 1 / 0.5, total ``main + 0.3 * scale loss``.

    Args:
        weights: w_s, one for each scale in the backbone's order, at least 0, not all 0.
        loss_weight: Factor of the sum, at least 0. An attribute that
            :class:`projects.multistage.warmup.StageWarmupHook` may set (``'scale_loss.loss_weight'``).
        targets: ``'nearest'`` or ``'area'``.
        loss: Config of a loss called as ``loss(logits, label, ignore_index=…)``; None: the above.
        ignore_index: Label of pixels that are not counted.

    Raises:
        UserError: An argument is out of range, or (when it runs) the numbers of weights and scales differ.
    """

    def __init__(self, weights: Sequence[float] = (0.5, 1.0, 0.5), loss_weight: float = 0.3, targets: str = 'nearest',
                 loss: Mapping[str, Any] | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        self.weights = tuple(float(weight) for weight in weights)
        self.loss_weight = float(loss_weight)
        if not all(0 <= weight < math.inf for weight in self.weights) or not sum(self.weights):
            raise UserError(f'scale_loss.weights: expected numbers of at least 0, not all 0, found {tuple(weights)}')
        if not 0 <= self.loss_weight < math.inf:
            raise UserError(f'scale_loss.loss_weight: expected at least 0, found {loss_weight}')
        if targets not in TARGETS:
            raise UserError(f"scale_loss.targets: expected 'nearest' or 'area', found {targets!r}"
                            f'{nearest(str(targets), TARGETS)}')
        if loss is not None and targets == 'area':
            raise UserError("scale_loss.loss: expected none with targets='area': mmseg's losses take hard labels")
        self.targets, self.ignore_index = targets, int(ignore_index)
        self.loss = None if loss is None else MODELS.build(dict(loss))

    def forward(self, predictions: Sequence[Tensor], label: Tensor, names: Sequence[Any] | None = None
                ) -> dict[str, Tensor]:
        """Compare the predictions of all scales with the labels.

        Args:
            predictions: Logits (N, C, h_s, w_s), one map for each scale.
            label: Class indices (N, H, W), ``ignore_index`` where there is none.
            names: What the log calls the scales; None: their positions.

        Returns:
            ``loss_scale``, and for the log ``scale/<name>``: L of each scale, not weighted and without a gradient.
        """
        if len(predictions) != len(self.weights):
            raise UserError(f'scale_loss.weights: expected {len(predictions)}, one for each scale, found '
                            f'{len(self.weights)}')
        planes = self._planes(label, predictions[0].shape[1]) if self.targets == 'area' else None
        total, told = 0.0, {}
        for weight, prediction, name in zip(self.weights, predictions, names or range(len(predictions))):
            size = prediction.shape[-2:]
            if planes is not None:
                value = _soft_cross_entropy(prediction, F.adaptive_avg_pool2d(planes, size))
            elif self.loss is not None:
                value = self.loss(prediction, resize_labels(label, size), ignore_index=self.ignore_index)
            else:
                value = self._cross_entropy(prediction, resize_labels(label, size))
            total = total + weight * value
            told[f'scale/{name}'] = value.detach()
        return {'loss_scale': self.loss_weight * total, **told}

    def _cross_entropy(self, prediction: Tensor, label: Tensor) -> Tensor:
        labelled = label != self.ignore_index
        if prediction.shape[1] == 1:
            values = F.binary_cross_entropy_with_logits(prediction[:, 0].float(), (label == 1).float(),
                                                        reduction='none')
            total = torch.where(labelled, values, 0).sum()
        else:
            total = F.cross_entropy(prediction.float(), label.long(), ignore_index=self.ignore_index, reduction='sum')
        return total / labelled.sum().clamp(min=1)

    def _planes(self, label: Tensor, channels: int) -> Tensor:
        """Return 0/1 maps (N, classes, H, W); where a pixel is ignored all of them are 0."""
        classes = torch.arange(max(channels, 2), device=label.device)
        planes = label.unsqueeze(1) == classes[:, None, None]
        if channels == 1:  # as for hard labels: what is labelled and not class 1 is background
            planes[:, 0] = (label != 1)
        return (planes & (label != self.ignore_index).unsqueeze(1)).float()


def resize_labels(label: Tensor, size: Sequence[int]) -> Tensor:
    """Resize labels (N, H, W) to ``size`` (h, w): each cell takes the label under its centre.

    ``F.interpolate(mode='nearest')`` takes the upper left pixel of a cell, which shifts labels by half a cell.
    """
    (height, width), (rows, columns) = label.shape[-2:], size
    row = (2 * torch.arange(rows, device=label.device) + 1) * height // (2 * rows)
    column = (2 * torch.arange(columns, device=label.device) + 1) * width // (2 * columns)
    return label[..., row[:, None], column]


def _soft_cross_entropy(prediction: Tensor, shares: Tensor) -> Tensor:
    """Return the mean over labelled cells; logits (N, C, h, w), mean planes (N, max(C, 2), h, w) of unequal sums."""
    labelled = shares.sum(dim=1)  # (N, h, w), the share of labelled pixels of a cell
    target = shares / labelled.clamp(min=1e-12).unsqueeze(1)
    if prediction.shape[1] == 1:
        values = F.binary_cross_entropy_with_logits(prediction[:, 0].float(), target[:, 1], reduction='none')
    else:
        values = -(target * prediction.float().log_softmax(dim=1)).sum(dim=1)
    counts = labelled > 0
    return torch.where(counts, values, 0).sum() / counts.sum().clamp(min=1)
