"""sf: which part of a line is hidden."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class OcclusionLoss(nn.Module):
    """``mean of |(s_f, s_b) - s*|^2`` over the lines whose hidden interval is known.

    Lines with an unknown interval (a NaN in either number) count nowhere; where none is known, the loss is zero with
    zero gradients. Computed in float32 under autocast too.

    Args:
        loss_weight: Factor of the whole. Default 1.

    Source: specs/roofline.md, "The six losses".
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            predicted: (s_f, s_b), shares of the line from its first end, 0..1 (L, 2); L may be 0.
            target: The same, NaN where it is not known (L, 2).
        """
        known = ~target.isnan().any(1)
        target = torch.where(known[:, None], target.float(), 0)  # before the difference: a NaN's gradient stays NaN
        square = (predicted.float() - target).square().sum(1)
        return self.loss_weight * torch.where(known, square, 0).sum() / known.sum().clamp_min(1)
