"""off: where in its cell a junction lies."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class JunctionOffsetLoss(nn.Module):
    """``mean over junctions of |sigmoid(o) - 1/2 - t|^2`` with ``t = v - floor(v) - 1/2``, in cells.

    Only the cells of junctions count, all of the batch alike. Its minimum is sigmoid(o) - 1/2 = t. A batch without
    junctions adds zero, with zero gradients. Computed in float32 under autocast too.

    Args:
        loss_weight: Factor of the whole. Default 1.

    Source: specs/roofline.md, "The six losses"; Zhou et al., End-to-End Wireframe Parsing (L-CNN), ICCV 2019.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, raw: Tensor, joff: Tensor, jmap: Tensor) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            raw: o, before the sigmoid, (dy, dx) (B, T, 2, h, w).
            joff: t in -1/2..1/2, (dy, dx) (B, T, 2, h, w); read at junctions only.
            jmap: 1 at the cells of junctions, 0 elsewhere (B, T, h, w).
        """
        square = (raw.float().sigmoid() - 0.5 - joff.float()).square().sum(2)  # (B, T, h, w)
        is_junction = jmap > 0.5
        return self.loss_weight * torch.where(is_junction, square, 0).sum() / is_junction.sum().clamp_min(1)
