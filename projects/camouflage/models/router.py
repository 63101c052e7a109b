"""Which expert a picture is for, told from the pyramid of its features."""

from collections.abc import Sequence

import torch
from mmengine import dist
from mmengine.model import BaseModule
from torch import Tensor, nn

from projects.engine.errors import UserError

RECENT = 256  # pictures that are remembered
EPSILON = 1e-5
LIMIT = 5.0  # deviations: a channel that was silent in the remembered pictures cannot decide alone


class ExpertRouter(BaseModule):
    """Pooled pyramid -> standardised -> linear (or MLP) -> softmax over the experts, one distribution a picture.

    Every level is averaged over its positions (global average pooling) and the averages are joined. The pooled
    features of the last :data:`RECENT` training pictures are remembered. They have two uses. Most of such a vector is
    the same for all pictures, so their mean is subtracted and their deviation divided by. And what is asked of *all*
    pictures together (:meth:`recent_probabilities`: a balanced load, a sure choice) is asked of these, by the router
    as it is now and with exact gradients: batch 1 is a batch like any other.

    The backbone gets no gradient from here: trained through the router, its features collapse onto one expert. It
    runs in float32 under autocast too, since top-k over bfloat16 numbers would meet ties, and it starts near the
    uniform distribution, so that every expert learns from the first step on.

    Args:
        in_channels: Width of every level.
        num_experts: Number of experts E, at least 1.
        hidden: Width of a hidden layer, at least 0. Default 0, none: with one, choices were soon too sure to change.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: An argument is out of its range.
    """

    def __init__(self, in_channels: Sequence[int], num_experts: int, hidden: int = 0,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if not in_channels:
            raise UserError('ExpertRouter: in_channels: expected the width of at least one level, found none')
        if hidden < 0:
            raise UserError(f'ExpertRouter: hidden: expected at least 0, found {hidden}')
        width = sum(in_channels)
        layers = [nn.Linear(width, hidden), nn.Tanh()] if hidden else []
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden or width, num_experts))
        self.register_buffer('recent', torch.zeros(RECENT, width))  # pooled features, the newest first
        self.register_buffer('seen', torch.zeros((), dtype=torch.long))  # how many of them there are
        self.register_buffer('mean', torch.zeros(width))
        self.register_buffer('deviation', torch.ones(width))
        self._start_near_uniform()

    def _start_near_uniform(self) -> None:
        nn.init.normal_(self.mlp[-1].weight, std=0.02)
        nn.init.zeros_(self.mlp[-1].bias)

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says, then the last layer as the constructor does."""
        first = not self.is_init
        super().init_weights()
        if first:
            self._start_near_uniform()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn levels (N, C_i, h_i, w_i) into probabilities (N, E), float32; each row sums to 1."""
        pooled = torch.cat([level.detach().mean((2, 3), dtype=torch.float32) for level in features], dim=1)
        if self.training:
            self._remember(pooled)
        return self._probabilities(pooled)  # (N, sum C_i) -> (N, E)

    def recent_probabilities(self) -> Tensor:
        """Return what the router says now of the training pictures it remembers, (M, E) float32, M <= RECENT."""
        return self._probabilities(self.recent[:int(self.seen)])

    def _probabilities(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            standardised = (pooled - self.mean) / self.deviation
            return self.mlp(standardised.clamp(-LIMIT, LIMIT)).softmax(dim=1)

    @torch.no_grad()
    def _remember(self, pooled: Tensor) -> None:
        """Take the batches of all processes, of equal sizes, into memory. Collective."""
        pooled = torch.cat(dist.all_gather(pooled))
        # New tensors: backward may still want the old ones
        self.recent = torch.cat([pooled, self.recent])[:RECENT]
        self.seen = torch.clamp(self.seen + len(pooled), max=RECENT)
        known = self.recent[:int(self.seen)]
        self.mean = known.mean(0)
        self.deviation = torch.sqrt(known.var(0, correction=0) + EPSILON)
