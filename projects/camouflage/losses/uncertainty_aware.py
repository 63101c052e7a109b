"""A loss on indecision, whatever the label."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class UncertaintyAwareLoss(nn.Module):
    """Mean of ``1 - certainty^2`` over the labelled pixels: 1 where the network cannot decide, 0 where it is sure.

    The certainty of one logit is ``|2p - 1|``, p its sigmoid. Of C >= 2 logits it is ``(C max p - 1) / (C - 1)``, p
    their softmax: 0 where all classes are equal, 1 where one is sure; for two classes that is ``|2p - 1|`` again. It
    stands beside a loss that knows the label, and is to grow during training: with ``lambda(t) = (1 - cos(pi t)) / 2``
    over the progress t in 0..1, set on ``loss_weight`` by ``StageWarmupHook``. Computed in float32 under autocast too.

    Args:
        loss_weight: Factor of the whole. Default 1.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.

    Source: Pang et al., Zoom In and Out: A Mixed-scale Triplet Network for Camouflaged Object Detection, CVPR 2022,
    section 3.4.
    """

    def __init__(self, loss_weight: float = 1.0, loss_name: str = 'loss_ual') -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int | None = 255,
                **kwargs) -> Tensor:
        """Return the loss, a scalar; zero, with zero gradients, when every pixel is ignored.

        Args:
            cls_score: Logits (N, C, H, W); C = 1 for the object alone.
            label: Class ids (N, H, W); asked only for what is ignored.
            weight: Factor of each pixel in the mean (N, H, W), or None.
            ignore_index: Label that does not count.
        """
        classes = cls_score.shape[1]
        if classes == 1:
            certainty = 2 * cls_score.float().sigmoid().squeeze(1) - 1
        else:
            certainty = (classes * cls_score.float().softmax(dim=1).amax(dim=1) - 1) / (classes - 1)
        counts = torch.ones_like(certainty) if weight is None else weight.float()
        if ignore_index is not None:
            counts = counts * (label != ignore_index)
        total = counts.sum()
        loss = ((1 - certainty.square()) * counts).sum() / torch.where(total > 0, total, 1)
        return self.loss_weight * loss
