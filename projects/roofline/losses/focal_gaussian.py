"""gauss: the raw junction map, with forgiveness near the junctions."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

SMALLEST = 1e-12  # logarithms stop here


@MODELS.register_module()
class FocalGaussianLoss(nn.Module):
    """``-1/N [sum over junctions (1-p)^alpha log p + sum elsewhere (1-G)^beta p^alpha log(1-p)]``, N junctions.

    Its minimum is p = 1 at the junctions and p = 0 everywhere else; G only says how little it matters beside a
    junction. (A focal loss with G itself as the label has its minimum at p = 1 wherever G > 1/2, so the neighbours of a
    junction become junctions, and no gradient at G = 1/2.) A batch without junctions divides by 1: what the network
    sees there is still wrong, and only a map of zeros costs nothing. Computed in float32 under autocast too.

    Args:
        alpha: How little the cells matter that are right already. Default 2.
        beta: How little the neighbours of junctions matter. Default 4.
        loss_weight: Factor of the whole. Default 1.

    Source: Law and Deng, CornerNet, ECCV 2018, equation 1; specs/roofline.md, "The six losses".
    """

    def __init__(self, alpha: float = 2.0, beta: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(self, probability: Tensor, gaussian: Tensor, junctions: Tensor) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            probability: p in 0..1 (B, T, h, w). Take it in float32: in bfloat16 all from 0.998 on is 1.
            gaussian: G in 0..1, of :class:`GaussianTarget` (B, T, h, w).
            junctions: True or 1 at the cells of junctions (B, T, h, w).
        """
        p, is_junction = probability.float(), junctions > 0.5
        found = (1 - p).pow(self.alpha) * p.clamp_min(SMALLEST).log()
        left_out = (1 - gaussian.float()).pow(self.beta) * p.pow(self.alpha) * (1 - p).clamp_min(SMALLEST).log()
        return -self.loss_weight * torch.where(is_junction, found, left_out).sum() / is_junction.sum().clamp_min(1)
