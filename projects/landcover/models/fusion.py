"""How the decoder joins a coarse map with a skip connection.

Source: Wang et al., UNetFormer, ISPRS J. 190 (2022), sections 3.2 and 3.3.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn


class WeightedFusion(nn.Module):
    """Upsample a map to its skip, add both with learned non-negative weights that sum to one, then 3x3 ConvBNReLU6.

    Args:
        skip_channels: Width of the skip.
        channels: Width of the coarse map and of the output.
        norm_cfg: Config of the norm layers.
        eps: Added to the sum of the weights.
    """

    def __init__(self, skip_channels: int, channels: int, norm_cfg: dict, eps: float = 1e-8) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(2))  # of the skip, of the coarse map
        self.eps = eps
        self.pre_conv = nn.Sequential(
            nn.Conv2d(skip_channels, channels, 3, padding=1, bias=False), build_norm_layer(norm_cfg, channels)[1])
        self.post_conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), build_norm_layer(norm_cfg, channels)[1],
            nn.ReLU6())

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Fuse ``x`` (N, C, h, w) with ``skip`` (N, S, H, W) to (N, C, H, W)."""
        x = F.interpolate(x, size=skip.shape[-2:], mode='bilinear', align_corners=False)
        weights = F.relu(self.weights)
        weights = weights / (weights.sum() + self.eps)
        return self.post_conv(weights[0] * self.pre_conv(skip) + weights[1] * x)


class FeatureRefinement(WeightedFusion):
    """A weighted fusion refined by pixel and channel attention, with a shortcut around both.

    Args:
        skip_channels: Width of the skip.
        channels: Width of the coarse map and of the output.
        norm_cfg: Config of the norm layers.
        reduction: Narrowing inside the channel attention.
    """

    def __init__(self, skip_channels: int, channels: int, norm_cfg: dict, reduction: int = 16) -> None:
        super().__init__(skip_channels, channels, norm_cfg)
        hidden = max(channels // reduction, 1)
        self.pa = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Sigmoid())
        self.ca = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False)),
            nn.ReLU6(),
            nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False)),
            nn.Sigmoid())
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), build_norm_layer(norm_cfg, channels)[1])
        self.proj = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            build_norm_layer(norm_cfg, channels)[1])
        self.act = nn.ReLU6()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Fuse ``x`` (N, C, h, w) with ``skip`` (N, S, H, W) to (N, C, H, W)."""
        x = super().forward(x, skip)
        return self.act(self.proj(self.pa(x) * x + self.ca(x) * x) + self.shortcut(x))
