"""A mixture of experts in which none is idle: a loss on the router's average choice."""

import torch
from mmengine import dist
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


@MODELS.register_module()
class LoadBalanceLoss(nn.Module):
    """``weight * (sum_e (p_e - 1/E)^2 + CV(p))`` of the load p: the router's probabilities averaged over pictures.

    CV is the coefficient of variation, standard deviation over mean, of the E loads (population, so that it is 0 at
    balance and sqrt(E - 1) where one expert takes all). The loss falls on the *load* and not on a picture's own
    distribution: routers that are sure of themselves cost nothing as long as all experts are wanted equally often.

    Over which pictures the load is averaged decides what is asked for. Over the batch alone (``history=0``) two
    pictures must be for different experts, and one picture (batch 1) for all of them equally: nothing could specialise.
    So the value of p is a running mean over about the last ``history`` pictures, and its gradient that of the batch's
    mean: each picture pushes against the experts that were wanted too often *over time*. A plain moving average would
    scale the gradient down by the batch's share in it, and a detached one has none. The running mean starts as the mean
    of what has been seen; a batch of ``history`` pictures or more is its own load.

    With several processes the value of p is the mean over all of them (one message of E numbers a step, in training).
    The gradient stays each process's own; averaged over the processes, as DDP does, it is exactly that of the mean.

    Args:
        num_experts: Number of experts E, at least 1. :class:`ModelLevelMoE` fills it in.
        history: Pictures that the running load remembers, at least 0. Default 256.
        loss_weight: Factor of the whole. Default 0.01.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on. Default ``loss_balance``.

    Raises:
        UserError: ``num_experts`` is below 1, or ``history`` negative.
    """

    def __init__(self, num_experts: int, history: int = 256, loss_weight: float = 0.01,
                 loss_name: str = 'loss_balance') -> None:
        super().__init__()
        if num_experts < 1:
            raise UserError(f'LoadBalanceLoss: num_experts: expected at least 1, found {num_experts}')
        if history < 0:
            raise UserError(f'LoadBalanceLoss: history: expected at least 0 pictures, found {history}')
        self.history = int(history)
        self.loss_weight = loss_weight
        self.loss_name = loss_name
        self.register_buffer('load', torch.full((num_experts,), 1 / num_experts))  # the running mean
        self.register_buffer('seen', torch.zeros(()))  # pictures in it, until they are `history`

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            probabilities: Of the router, (N, E), rows that sum to 1.
        """
        with torch.autocast(probabilities.device.type, enabled=False):
            mean = probabilities.float().mean(0)
            load = mean
            if self.training:
                load = mean + (self._remember(mean.detach(), len(probabilities)) - mean.detach())
            return self.loss_weight * imbalance(load)

    @torch.no_grad()
    def _remember(self, mean: Tensor, count: int) -> Tensor:
        """Take the batch's load into the running one, and return that."""
        mean = mean_over_processes(mean)
        count *= dist.get_world_size()
        self.seen.copy_(torch.clamp(self.seen + count, max=max(self.history, count)))
        self.load += count / self.seen * (mean - self.load)
        return self.load.clone()


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, without a gradient; itself where there is one. Collective."""
    if dist.get_world_size() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value, op='mean')
    return value


def imbalance(load: Tensor) -> Tensor:
    """Return ``sum_e (p_e - 1/E)^2 + CV(p)`` of loads (E,) that sum to 1: 0 at balance, with a finite gradient."""
    experts = len(load)
    squares = (load - 1 / experts).square()
    variance = squares.mean()  # about 1/E, which is their mean
    # d sqrt(v) is infinite at 0; the small constant makes it 0 there and is invisible elsewhere
    deviation = torch.sqrt(variance + 1e-10) - 1e-5
    return squares.sum() + experts * deviation
