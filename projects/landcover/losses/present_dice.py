"""Dice over the classes that a batch holds."""

from collections.abc import Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class PresentDiceLoss(nn.Module):
    """Dice loss summed over the classes present in the batch and divided by the number of all classes.

    ``(1/C) sum_c [sum y_c > 0] (1 - (2 sum p_c y_c + s) / (sum p_c + sum y_c + s))``: sums over batch and pixels,
    ignored pixels left out, s = ``smooth``. mmseg's ``DiceLoss`` differs: it takes sums per image, squares them, and
    counts absent classes. Computed in float32 under autocast too.

    Args:
        smooth: Added to numerator and denominator. Default 0.05.
        class_weight: Factor of each class, C numbers; the mean over the classes becomes the weighted mean.
        loss_weight: Factor of the whole.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.
    """

    def __init__(self, smooth: float = 0.05, class_weight: Sequence[float] | None = None, loss_weight: float = 1.0,
                 loss_name: str = 'loss_dice') -> None:
        super().__init__()
        self.smooth = smooth
        self.loss_weight = loss_weight
        self.loss_name = loss_name
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)

    def forward(self, pred: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int | None = 255,
                **kwargs) -> Tensor:
        """Return the loss, a scalar; zero, with zero gradients, when every pixel is ignored.

        Args:
            pred: Logits (N, C, H, W).
            label: Class ids (N, H, W).
            weight: Factor of each pixel in all sums (N, H, W), or None.
            ignore_index: Label that does not count.
        """
        classes = torch.arange(pred.shape[1], device=pred.device).view(1, -1, 1, 1)
        label = label.unsqueeze(1)
        counts = torch.ones_like(label, dtype=torch.float32) if weight is None else weight.unsqueeze(1).float()
        if ignore_index is not None:
            counts = counts * (label != ignore_index)  # (N, 1, H, W)

        probability = pred.float().softmax(dim=1) * counts
        truth = (label == classes) * counts
        overlap = torch.where(label == classes, probability, 0.0).sum(dim=(0, 2, 3))
        size = truth.sum(dim=(0, 2, 3))
        dice = (2 * overlap + self.smooth) / (probability.sum(dim=(0, 2, 3)) + size + self.smooth)
        losses = (1 - dice) * (size > 0)  # (C,)
        if self.class_weight is None:
            return self.loss_weight * losses.mean()
        return self.loss_weight * (losses * self.class_weight).sum() / self.class_weight.sum()
