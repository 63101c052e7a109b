"""Cross entropy against smoothed labels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SoftCrossEntropyLoss(nn.Module):
    """Cross entropy with label smoothing, averaged over the pixels that are not ignored.

    The target of a pixel of class y over C classes is ``(1 - smoothing) * onehot(y) + smoothing / C``. Computed in
    float32 under autocast too.

    Args:
        smoothing: Share of the target spread evenly over all C classes, 0..1. Default 0.05.
        class_weight: Factor of each class, C numbers: each term ``-log p_c`` counts ``class_weight[c]`` times, and the
            mean is over the weights of the pixels' own classes (as in ``torch.nn.functional.cross_entropy``).
        loss_weight: Factor of the whole.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.
    """

    def __init__(self, smoothing: float = 0.05, class_weight: Sequence[float] | None = None, loss_weight: float = 1.0,
                 loss_name: str = 'loss_ce') -> None:
        super().__init__()
        self.smoothing = smoothing
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
            weight: Factor of each pixel (N, H, W), or None.
            ignore_index: Label that does not count.
        """
        ignore_index = -100 if ignore_index is None else ignore_index
        label = label.long()
        losses = F.cross_entropy(pred.float(), label, weight=self.class_weight, reduction='none',
                                 ignore_index=ignore_index, label_smoothing=self.smoothing)  # (N, H, W), 0 if ignored
        if weight is not None:
            losses = losses * weight
        kept = label != ignore_index
        if self.class_weight is None:
            total = kept.sum()
        else:
            total = (self.class_weight[label.where(kept, 0)] * kept).sum()
        return self.loss_weight * losses.sum() / total.clamp(min=torch.finfo(torch.float32).tiny)
