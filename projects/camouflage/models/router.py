"""Which expert a picture is for, told from the pyramid of its features."""

from collections.abc import Sequence

import torch
from mmengine import dist
from mmengine.model import BaseModule
from torch import Tensor, nn

from projects.camouflage.models.balance_loss import mean_over_processes
from projects.engine.errors import UserError

HISTORY = 64  # pictures that the running mean and variance remember
EPSILON = 1e-5


class ExpertRouter(BaseModule):
    """Pooled pyramid -> LayerNorm -> MLP -> softmax over the experts, one distribution a picture.

    Every level is averaged over its positions (global average pooling) and the averages are joined. Most of such a
    vector is the same for all pictures; a running mean is subtracted and a running deviation divided by, so that the
    MLP sees how a picture differs from the others. They are the running ones in training too: batch 1 is a batch like
    any other. It runs in float32 under autocast too, since top-k over bfloat16 numbers would meet ties, and it starts
    near the uniform distribution, so that every expert learns from the first step on.

    The loss of a mixture rewards sending everything to the expert that happened to learn first, more strongly than a
    balance loss of weight 0.01 can undo, and once a softmax is saturated no gradient undoes it. So the MLP has no
    biases and an odd activation: on centred features its outputs are centred too, and gradients can teach it which
    pictures are for whom, but hardly which expert is liked best. What is left of that is undone by a bias of each
    expert that :meth:`rebalance` moves.

    Args:
        in_channels: Width of every level.
        num_experts: Number of experts E, at least 1.
        hidden: Width of the MLP's hidden layer. Default 64.
        temperature: Divides the MLP's outputs before the softmax, above 0. Default 1.
        balance_rate: What one step moves an expert's bias by, for a load that is off by 1; at least 0. Default 0.05.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: An argument is out of its range.

    Source of the bias: Wang et al., Auxiliary-loss-free load balancing strategy for mixture-of-experts, 2024.
    """

    def __init__(self, in_channels: Sequence[int], num_experts: int, hidden: int = 64, temperature: float = 1.0,
                 balance_rate: float = 0.05, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if not in_channels:
            raise UserError('ExpertRouter: in_channels: expected the width of at least one level, found none')
        if hidden < 1:
            raise UserError(f'ExpertRouter: hidden: expected at least 1, found {hidden}')
        if not temperature > 0:
            raise UserError(f'ExpertRouter: temperature: expected a number above 0, found {temperature}')
        if balance_rate < 0:
            raise UserError(f'ExpertRouter: balance_rate: expected at least 0, found {balance_rate}')
        self.temperature = float(temperature)
        self.balance_rate = float(balance_rate)
        width = sum(in_channels)
        # No shift and an odd activation: what is centred stays centred up to the softmax.
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.Tanh(), nn.Linear(hidden, num_experts, bias=False))
        self.register_buffer('bias', torch.zeros(num_experts))
        self.register_buffer('mean', torch.zeros(width))  # of the pooled features, over pictures
        self.register_buffer('variance', torch.ones(width))
        self.register_buffer('seen', torch.zeros(()))  # pictures in both, until they are `history`
        self._start_near_uniform()

    def _start_near_uniform(self) -> None:
        nn.init.normal_(self.mlp[-1].weight, std=0.02)

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says, then the last layer as the constructor does."""
        super().init_weights()
        self._start_near_uniform()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn levels (N, C_i, h_i, w_i) into probabilities (N, E), float32; each row sums to 1."""
        with torch.autocast(features[0].device.type, enabled=False):
            pooled = torch.cat([level.mean((2, 3), dtype=torch.float32) for level in features], dim=1)  # (N, sum C_i)
            pooled = self.norm(pooled)
            if self.training:
                self._remember(pooled.detach())
            standard = (pooled - self.mean) / torch.sqrt(self.variance + EPSILON)
            return (self.mlp(standard) / self.temperature + self.bias).softmax(dim=1)

    @torch.no_grad()
    def _remember(self, pooled: Tensor) -> None:
        """Take the batch's pooled features, of all processes, into the running mean and variance."""
        count = len(pooled) * dist.get_world_size()
        self.seen.copy_(torch.clamp(self.seen + count, max=max(HISTORY, count)))
        share = count / self.seen
        self.mean = self.mean + share * (mean_over_processes(pooled.mean(0)) - self.mean)
        spread = mean_over_processes((pooled - self.mean).square().mean(0))
        self.variance = self.variance + share * (spread - self.variance)

    @torch.no_grad()
    def rebalance(self, load: Tensor) -> None:
        """Move the biases against the load, the share of the pictures that each expert gets: (E,), its sum is 1."""
        self.bias = self.bias + self.balance_rate * (1 / len(load) - load)
