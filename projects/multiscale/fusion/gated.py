"""Gated fusion: groups of channels choose among the scales, place by place."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.multiscale.fusion.base import ScaleFusion, accumulation_type, divisor_up_to, to_tokens


@MODELS.register_module()
class GatedFusion(ScaleFusion):
    """A softmax over the scales, one for each location and group of channels, weighs the scales' values.

    The gate sees all scales side by side through a 1x1 bottleneck of ``channels // 4``; the values are a 1x1
    convolution of each scale. One group is the plain gate.

    Source: the idea of the multi-head scale integration unit of ZoomNeXt (Pang et al. 2024).

    Args:
        channels, num_scales, reference, init_cfg: See :class:`ScaleFusion`.
        groups: Wanted number of groups, at least 1; the largest divisor of ``channels`` up to it is taken (64
            channels: 4 of the default 6), as one config serves all levels of a pyramid.

    Raises:
        UserError: ``groups`` is below 1.
    """

    def __init__(self, channels: int, num_scales: int, reference: int, groups: int = 6, init_cfg: Any = None) -> None:
        super().__init__(channels, num_scales, reference, init_cfg)
        if groups < 1:
            raise UserError(f'GatedFusion.groups: expected at least 1, found {groups}')
        self.groups = divisor_up_to(channels, groups)
        hidden = max(channels // 4, 1)
        self.bottleneck = nn.Conv2d(num_scales * channels, hidden, 1)
        self.gate = nn.Conv2d(hidden, num_scales * self.groups, 1)
        self.values = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_scales))

    def mixture(self, features: Sequence[Tensor]) -> Tensor:
        """Return the gated values ``(C, N*h*w)``."""
        gates = self._gates(features)
        mixed: Tensor | None = None
        for index, (project, feature) in enumerate(zip(self.values, features)):
            value = project(feature).unflatten(1, (self.groups, -1))  # (N, groups, C/groups, h, w)
            part = value * gates[:, index].to(value.dtype).unsqueeze(2)
            mixed = part if mixed is None else mixed + part
        return to_tokens(mixed.flatten(1, 2))

    def mixing_weights(self, features: Sequence[Tensor]) -> Tensor:
        """Return the gates averaged over the groups ``(N, S, h, w)``."""
        return self._gates(features).mean(2)

    def _gates(self, features: Sequence[Tensor]) -> Tensor:
        """Return ``(N, S, groups, h, w)`` in float32 (float64 from float64), summing to 1 over S."""
        logits = self.gate(nn.functional.gelu(self.bottleneck(torch.cat(list(features), 1))))
        return logits.unflatten(1, (self.num_scales, self.groups)).to(accumulation_type(logits.dtype)).softmax(1)
