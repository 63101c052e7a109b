"""lv: which candidate lines are lines."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class LineVerificationLoss(nn.Module):
    """Binary cross entropy with logits: the mean over the positives plus the mean over the negatives.

    So one positive among a thousand negatives pulls as hard as all of them together. A side without samples adds zero,
    and no samples at all give zero with zero gradients. Computed in float32 under autocast too.

    Args:
        loss_weight: Factor of the whole. Default 1.

    Source: specs/roofline.md, "The six losses"; Zhou et al., End-to-End Wireframe Parsing (L-CNN), ICCV 2019.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: Of the samples (L,); L may be 0.
            labels: 1 for a line, 0 for none (L,).
            weight: Factor of each sample in its mean, >= 0 (L,). Default None: 1.
        """
        entropy = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction='none')
        weight = torch.ones_like(entropy) if weight is None else weight.float()
        is_line = labels > 0.5
        return self.loss_weight * (_mean(entropy, weight * is_line) + _mean(entropy, weight * ~is_line))


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean; 0, with a gradient of 0, where all weights are."""
    total = weight.sum()
    return (value * weight).sum() / torch.where(total > 0, total, 1)
