"""The line verifier: how much a candidate line looks like one, and which part of it is hidden."""

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from projects.engine.errors import UserError
from projects.roofline.models.line_sampling import pooled_samples, sample_map

END_FEATURES = 8  # inputs of the first linear layer that published weights have; the published settings feed zeros
_LINES_AT_ONCE = 512  # of the occlusion layers, without gradients: their 64 x 64 values a line stay in a CPU's cache


class OcclusionAttention(nn.Module):
    """The published AOAM: the line map along a line to the hidden interval ``(s_f, s_b)``, shares of the line.

    Three times ``conv1d(3) BN ReLU``, then one linear layer and a sigmoid.

    Args:
        points: Values along a line.
        hidden: Channels. Default 64.

    Source: specs/roofline.md, "Network" (occlusion attention).
    """

    def __init__(self, points: int, hidden: int = 64) -> None:
        super().__init__()
        layers = []
        for channels in (1, hidden, hidden):
            layers += [nn.Conv1d(channels, hidden, 3, padding=1), nn.BatchNorm1d(hidden), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.fc = nn.Linear(hidden * points, 2)

    def forward(self, values: Tensor) -> Tensor:
        """Return (L, 2) of values (L, points) in 0..1."""
        if torch.is_grad_enabled() or len(values) <= _LINES_AT_ONCE:
            return self._interval(values)
        return torch.cat([self._interval(some) for some in values.split(_LINES_AT_ONCE)])

    def _interval(self, values: Tensor) -> Tensor:
        if not len(values):  # a rank without lines meets the others in every layer
            return self._interval(values.new_zeros(1, values.shape[1]))[:0]
        hidden = self.convs(values[:, None]).flatten(1)
        with torch.autocast(hidden.device.type, enabled=False):  # 8 bits do not tell 64 places apart
            return self.fc(hidden.float()).sigmoid()


@MODELS.register_module()
class LineVerifier(BaseModule):
    """Score candidate lines by the features along them, without those that are hidden.

    Features ``fc1(x) (1 + lmap)`` are sampled at ``points`` places of a line, those in the hidden interval are masked,
    groups of neighbours are max-pooled to ``pooled`` values, and three linear layers say how sure it is. In training
    the mask is ``1 - sigmoid((k - P s_f) / tau) sigmoid((P s_b - k) / tau)``, which has a gradient; at test it is 0
    for ``ceil(P s_f) <= k < ceil(P s_b)`` and 1 elsewhere, as published.

    Args:
        in_channels: Of the backbone's features. Default 256.
        channels: Of the sampled features. Default 128.
        hidden: Of the linear layers. Default 1024.
        points: P, places along a line, a multiple of ``pooled``. Default 64.
        pooled: Values of a channel that remain. Default 8.
        attention: Channels of the occlusion attention. Default 64.
        tau: Softness of the mask in training, in places. Default 1.
        init_cfg: As for every mmengine module.

    Source: specs/roofline.md, "Network" (line stage, occlusion attention); Zhou et al., L-CNN, ICCV 2019 (LoI pooling).
    """

    def __init__(self, in_channels: int = 256, channels: int = 128, hidden: int = 1024, points: int = 64,
                 pooled: int = 8, attention: int = 64, tau: float = 1.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if points % pooled or tau <= 0:
            raise UserError(f'LineVerifier: expected points in multiples of pooled and tau > 0, found points {points}, '
                            f'pooled {pooled}, tau {tau}')
        self.points, self.pooled, self.tau = points, pooled, tau
        # where along a line its features are read, 0 the SECOND end (published checkpoints count from there) and 1 the
        # first; a buffer, because they hold it
        self.register_buffer('steps', torch.linspace(0, 1, points))
        self.fc1 = nn.Conv2d(in_channels, channels, 1)
        self.attention = OcclusionAttention(points, attention)
        self.fc2 = nn.Sequential(
            nn.Linear(channels * pooled + END_FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1))

    def features(self, x: Tensor, lmap: Tensor) -> Tensor:
        """Return what lines are sampled from (B, channels, h, w).

        Args:
            x: The backbone's features (B, in_channels, h, w).
            lmap: Probability of a line (B, h, w).
        """
        return self.fc1(x) * (1 + lmap[:, None])

    def forward(self, features: Tensor, lmap: Tensor, lines_yx: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (L,) and hidden intervals (L, 2), shares of each line from its FIRST end.

        Args:
            features: Of :meth:`features` (B, channels, h, w).
            lmap: Probability of a line (B, h, w).
            lines_yx: Both ends (y, x) in cells, corner origin (L, 2, 2).
            image_index: Image of each line (L,) int64.
        """
        lines_yx = lines_yx.flip(1)
        hidden = self.attention(sample_map(lmap, lines_yx, image_index, self.steps))
        pooled = pooled_samples(
            features, lines_yx, image_index, self.steps, self.pooled, self.mask(hidden)).flatten(1)
        ends = self.fc2[0]
        # the inputs that the published settings feed with zeros are left out of the product; their weights get a
        # gradient of zero
        first = F.linear(pooled.to(ends.weight.dtype), ends.weight[:, :pooled.shape[1]], ends.bias)
        between = self.fc2[1:-1](first)
        with torch.autocast(between.device.type, enabled=False):  # 8 bits would make ties of good lines
            return self.fc2[-1](between.float())[:, 0], 1 - hidden.flip(1)

    def mask(self, hidden: Tensor) -> Tensor:
        """Return the factors (L, points) of the places with these hidden intervals (L, 2), both from the same end."""
        place = torch.arange(self.points, device=hidden.device, dtype=hidden.dtype)
        start, end = (self.points * hidden)[..., None].unbind(1)
        if self.training:
            return 1 - ((place - start) / self.tau).sigmoid() * ((end - place) / self.tau).sigmoid()
        return 1 - ((place >= start.ceil()) & (place < end.ceil())).to(hidden.dtype)
