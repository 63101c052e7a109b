"""A mixture of experts in which none is idle, and in which the expert tells something of the picture."""

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


@MODELS.register_module()
class LoadBalanceLoss(nn.Module):
    """``weight * (sum_e (p_e - 1/E)^2 + CV(p))`` of the load p: the router's probabilities averaged over pictures.

    CV is the coefficient of variation, standard deviation over mean, of the E loads (population, so that it is 0 at
    balance and sqrt(E - 1) where one expert takes all). The loss falls on the *load* and not on a picture's own
    distribution: routers that are sure of themselves cost nothing as long as all experts are wanted equally often.

    Give it many pictures, as :class:`ModelLevelMoE` does: over a batch of one it would ask of that picture to be for
    all experts equally, and nothing could specialise.

    Args:
        num_experts: Number of experts E, at least 1. :class:`ModelLevelMoE` fills it in.
        loss_weight: Factor of the whole. Default 0.01.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on. Default ``loss_balance``.

    Raises:
        UserError: ``num_experts`` is below 1.
    """

    def __init__(self, num_experts: int, loss_weight: float = 0.01, loss_name: str = 'loss_balance') -> None:
        super().__init__()
        if num_experts < 1:
            raise UserError(f'LoadBalanceLoss: num_experts: expected at least 1, found {num_experts}')
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return the loss, a float32 scalar, of the router's probabilities (N, E), rows that sum to 1."""
        return self.loss_weight * imbalance(probabilities.float().mean(0))


def imbalance(load: Tensor) -> Tensor:
    """Return ``sum_e (p_e - 1/E)^2 + CV(p)`` of loads (E,) that sum to 1: 0 at balance, with a finite gradient."""
    experts = len(load)
    squares = (load - 1 / experts).square()
    variance = squares.mean()  # about 1/E, which is their mean
    # d sqrt(v) is infinite at 0; the small constant makes it 0 there and is invisible elsewhere
    deviation = torch.sqrt(variance + 1e-10) - 1e-5
    return squares.sum() + experts * deviation


def routed_information(probabilities: Tensor) -> Tensor:
    """Return the mutual information of picture and expert in nats, 0..log E, of probabilities (N, E).

    It is the entropy of the mean distribution minus the mean entropy of the distributions: large where each picture is
    surely for one expert and all experts are wanted equally often.

    Source: Chen et al., Mod-Squad, CVPR 2023.
    """
    return torch.special.entr(probabilities.mean(0)).sum() - torch.special.entr(probabilities).sum(1).mean()
