"""Normalisation that knows how large and how dense a patch is."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchCode(nn.Module):
    """Embed a patch's context ``[log2(size / 50 m), log(points per m2)]`` (B, 2) as (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, context: Tensor) -> Tensor:
        """Map (B, 2) to (B, width)."""
        return self.layers(context)


class ConditionedNorm(nn.LayerNorm):
    """LayerNorm over the channels whose scale and shift follow the patch's code (FiLM).

    Statistics are a point's own, so padding has no part in them. It starts as a plain LayerNorm.

    Source: Perez et al., FiLM, AAAI 2018.
    """

    def __init__(self, channels: int, code_width: int) -> None:
        super().__init__(channels)
        self.film = nn.Linear(code_width, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Normalise (B, N, C) under codes (B, code_width); the type of x stays."""
        scale, shift = self.film(code).to(self.weight.dtype).unsqueeze(1).chunk(2, dim=-1)  # (B, 1, C) each
        scale, shift = self.weight * (1 + scale), self.bias * (1 + scale) + shift
        with torch.autocast(x.device.type, enabled=False):
            if len(x) == 1:  # one pass instead of two
                return F.layer_norm(x, self.normalized_shape, scale[0, 0].to(x.dtype), shift[0, 0].to(x.dtype),
                                    self.eps)
            x = F.layer_norm(x, self.normalized_shape, eps=self.eps)
            return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))
