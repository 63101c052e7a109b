"""PVTv2: a pyramid of transformer stages with spatially reduced attention."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.config import nearest
from projects.engine.errors import UserError

STRIDES = (4, 2, 2, 2)
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
POOLED = 7  # side of the keys' map in linear attention
SMALLEST = 32  # side of an image: the first reduction needs a map of 8x8


@dataclass(frozen=True)
class Arch:
    """What one PVTv2 differs in from another."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int] = (8, 8, 4, 4)
    linear: bool = False


WIDE = (64, 128, 320, 512)
ARCHS = {
    'b0': Arch((32, 64, 160, 256), (2, 2, 2, 2)),
    'b1': Arch(WIDE, (2, 2, 2, 2)),
    'b2': Arch(WIDE, (3, 4, 6, 3)),
    'b2_li': Arch(WIDE, (3, 4, 6, 3), linear=True),
    'b3': Arch(WIDE, (3, 4, 18, 3)),
    'b4': Arch(WIDE, (3, 8, 27, 3)),
    'b5': Arch(WIDE, (3, 6, 40, 3), mlp_ratios=(4, 4, 4, 4)),
}


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """See tokens (N, H*W, C) as a channels-last map (N, C, H, W); nothing is copied."""
    return tokens.reshape(tokens.shape[0], height, width, tokens.shape[2]).permute(0, 3, 1, 2)


def to_tokens(x: Tensor) -> Tensor:
    """See a map (N, C, H, W) as tokens (N, H*W, C): a view of a channels-last map, a copy of any other."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class PatchEmbed(nn.Module):
    """Overlapping patches: a strided convolution and a norm over the channels.

    Args:
        in_channels: Channels of the map before.
        channels: Channels of the tokens.
        patch: Side of a patch.
        stride: Step from one patch to the next.
    """

    def __init__(self, in_channels: int, channels: int, patch: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, patch, stride, padding=patch // 2)
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        """Return tokens (N, h*w, channels), h and w."""
        x = self.proj(x)
        return self.norm(to_tokens(x)), x.shape[2], x.shape[3]


class ReducedAttention(nn.Module):
    """Attention of all positions to a reduced map of keys and values.

    The map is reduced by a convolution whose stride is its side, or (linear) averaged to 7x7, whatever its size.

    Args:
        channels: Width of the tokens.
        heads: Attention heads.
        reduction: Side of the cells that become one key. 1: no reduction (unless ``linear``).
        linear: Average to 7x7 instead.
        drop_rate: Dropout after the projection.
    """

    def __init__(self, channels: int, heads: int, reduction: int, linear: bool, drop_rate: float) -> None:
        super().__init__()
        self.heads, self.linear = heads, linear
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(drop_rate)
        self.sr = None
        if linear or reduction > 1:
            side = 1 if linear else reduction
            self.sr = nn.Conv2d(channels, channels, side, stride=side)
            self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (N, H*W, C) to the same shape."""
        source = x if self.sr is None else self._reduce(to_map(x, height, width))
        batch, positions, channels = x.shape
        width_of_head = channels // self.heads
        query = self.q(x).reshape(batch, positions, self.heads, width_of_head).transpose(1, 2)  # (N, heads, H*W, d)
        both = self.kv(source).reshape(batch, source.shape[1], 2, self.heads, width_of_head)
        key, value = both.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, keys, d) each
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))

    def _reduce(self, x: Tensor) -> Tensor:
        if self.linear:
            return F.gelu(self.norm(to_tokens(self.sr(F.adaptive_avg_pool2d(x, POOLED)))))
        return self.norm(to_tokens(self.sr(x)))


class DepthwiseConv(nn.Module):
    """The 3x3 depthwise convolution of the MLP, which also tells positions apart."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (N, H*W, C) to the same shape."""
        return to_tokens(self.dwconv(to_map(x, height, width)))


class ConvMLP(nn.Module):
    """Widen, convolve depthwise, GELU, narrow.

    Args:
        channels: Width of the tokens.
        hidden: Width between.
        linear: ReLU before the convolution.
        drop_rate: Dropout after GELU and at the end.
    """

    def __init__(self, channels: int, hidden: int, linear: bool, drop_rate: float) -> None:
        super().__init__()
        self.linear = linear
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (N, H*W, C) to the same shape."""
        x = self.fc1(x)
        x = self.dwconv(F.relu(x) if self.linear else x, height, width)
        return self.drop(self.fc2(self.drop(F.gelu(x))))


class Block(nn.Module):
    """Attention and MLP, each after a norm and beside a residual."""

    def __init__(self, channels: int, heads: int, reduction: int, mlp_ratio: int, linear: bool, drop_rate: float,
                 drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = ReducedAttention(channels, heads, reduction, linear, drop_rate)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = ConvMLP(channels, mlp_ratio * channels, linear, drop_rate)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Map tokens (N, H*W, C) to the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x), height, width))
        return x + self.drop_path(self.mlp(self.norm2(x), height, width))


@MODELS.register_module()
class PVTv2(BaseModule):
    """Pyramid Vision Transformer v2: four maps at strides 4, 8, 16 and 32, each after its norm.

    Parameters have the official names, so that the published ``pvt_v2_bN.pth`` load strictly; their classifier
    (``head.*``) is passed over. Inside, everything lies channels-last; the maps returned do, too.

    Args:
        arch: ``b0`` ... ``b5`` or ``b2_li`` (linear attention). Default ``b2``.
        in_channels: Channels of an image. Default 3.
        drop_rate: Dropout in attention's projection and the MLP, 0..1. Default 0.
        drop_path_rate: Stochastic depth of the last block, 0..1; it grows evenly from 0 in the first. Default 0.1.
        init_cfg: MMEngine's; None: drawn as in the paper.

    Attributes:
        channels: Widths of the four maps.

    Raises:
        UserError: The arch is unknown, or a side of an image is below 32 (``b2_li``: takes any).

    Source: Wang et al., PVT v2: Improved Baselines with Pyramid Vision Transformer, CVM 8 (2022), table 1.
    """

    def __init__(self, arch: str = 'b2', in_channels: int = 3, drop_rate: float = 0.0, drop_path_rate: float = 0.1,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if arch not in ARCHS:
            raise UserError(f'PVTv2: arch: expected one of {", ".join(ARCHS)}, found {arch!r}'
                            f'{nearest(str(arch), ARCHS)}')
        self.arch = ARCHS[arch]
        self.channels = self.arch.channels
        depths = self.arch.depths
        last = max(sum(depths) - 1, 1)
        before = in_channels
        for stage, channels in enumerate(self.channels):
            first = sum(depths[:stage])
            blocks = [Block(channels, HEADS[stage], REDUCTIONS[stage], self.arch.mlp_ratios[stage], self.arch.linear,
                            drop_rate, drop_path_rate * (first + index) / last) for index in range(depths[stage])]
            patch = PatchEmbed(before, channels, 7 if stage == 0 else 3, STRIDES[stage])
            self.add_module(f'patch_embed{stage + 1}', patch)
            self.add_module(f'block{stage + 1}', nn.ModuleList(blocks))
            self.add_module(f'norm{stage + 1}', nn.LayerNorm(channels, eps=1e-6))
            before = channels
        self.register_load_state_dict_pre_hook(_without_classifier)

    def init_weights(self) -> None:
        """Draw the weights as in the paper, or follow ``init_cfg``."""
        if self.init_cfg is None and not self.is_init:
            self._draw()
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turn images (N, in_channels, H, W) into maps (N, C, h, w) at strides 4, 8, 16 and 32, sizes rounded up."""
        if min(x.shape[-2:]) < SMALLEST and not self.arch.linear:
            raise UserError(f'PVTv2: expected images of at least {SMALLEST}x{SMALLEST} pixels, found '
                            f'{x.shape[-2]}x{x.shape[-1]}')
        maps = []
        for stage in range(1, 5):
            tokens, height, width = getattr(self, f'patch_embed{stage}')(x)
            for block in getattr(self, f'block{stage}'):
                tokens = block(tokens, height, width)
            x = to_map(getattr(self, f'norm{stage}')(tokens), height, width)
            maps.append(x)
        return tuple(maps)

    @torch.no_grad()
    def _draw(self) -> None:
        """Linear: truncated normal of std 0.02. Convolutions: He normal over the outputs of a group. Biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.zeros_(module.bias)


def _without_classifier(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """Pass over the classifier of a published file."""
    for name in ('head.weight', 'head.bias'):
        state_dict.pop(prefix + name, None)
