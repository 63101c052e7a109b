"""Hierarchical fusion: scale after scale joins a state, which attends to channels and to places."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.multiscale.fusion.base import ScaleFusion, divisor_up_to, to_tokens

CHANNELS_PER_GROUP = 16  # of a norm: even a map of one pixel has a variance then


class ChannelAttention(nn.Module):
    """Multiply each channel of ``(N, C, h, w)`` by a gate of 0..1 from the mean of the map.

    Args:
        channels: C.
        reduction: C over the width of the hidden layer.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, h, w)``."""
        hidden = nn.functional.gelu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * self.excite(hidden).sigmoid()


class SpatialAttention(nn.Module):
    """Multiply each place of ``(N, C, h, w)`` by a gate of 0..1 from mean and maximum of its neighbourhood's channels.

    Args:
        kernel: Side of the neighbourhood, odd.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.gate = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, h, w)``."""
        statistics = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.gate(statistics).sigmoid()


class ScaleJoin(nn.Module):
    """Let one more scale join the state: 1x1 convolution of both, norm, GELU, channel and spatial attention.

    The norm is over groups of channels: a batch of one with a map of one pixel has no batch statistics.

    Args:
        channels: C of either.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.norm = nn.GroupNorm(divisor_up_to(channels, channels // CHANNELS_PER_GROUP), channels)
        self.channel_attention = ChannelAttention(channels)
        self.spatial_attention = SpatialAttention()

    def forward(self, state: Tensor, feature: Tensor) -> Tensor:
        """Return the new state ``(N, C, h, w)``."""
        joined = nn.functional.gelu(self.norm(self.reduce(torch.cat([state, feature], 1))))
        return self.spatial_attention(self.channel_attention(joined))


@MODELS.register_module()
class HierarchicalFusion(ScaleFusion):
    """The first scale is the state, and one after another joins it (:class:`ScaleJoin`).

    The order is that of the backbone's ``scales``, taken as it is: list them in ascending order to fuse from coarse
    to fine. It has no weights of scales to show.

    Source: the seed's HierarchicalScaleIntegration, for any number of scales; CBAM (Woo et al. 2018) for the
    attentions.

    Args:
        channels, num_scales, reference, init_cfg: See :class:`ScaleFusion`.
    """

    has_scale_weights = False

    def __init__(self, channels: int, num_scales: int, reference: int, init_cfg: Any = None) -> None:
        super().__init__(channels, num_scales, reference, init_cfg)
        self.joins = nn.ModuleList(ScaleJoin(channels) for _ in range(num_scales - 1))

    def mixture(self, features: Sequence[Tensor]) -> Tensor:
        """Return the last state ``(C, N*h*w)``."""
        state = features[0]
        for join, feature in zip(self.joins, features[1:]):
            state = join(state, feature)
        return to_tokens(state)
