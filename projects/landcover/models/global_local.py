"""The global-local block of UNetFormer: windowed attention beside two convolutions.

Source: Wang et al., UNetFormer, ISPRS J. 190 (2022), section 3.2.
"""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from projects.landcover.models.padding import reflect_pad


def relative_position_index(window_size: int) -> Tensor:
    """Return the row of the bias table for each pair of positions in a square window, int64 (L, L), L = window**2."""
    axis = torch.arange(window_size)
    row, column = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing='ij'))
    offset_row = row[:, None] - row[None, :] + window_size - 1  # 0 .. 2 * window - 2
    offset_column = column[:, None] - column[None, :] + window_size - 1
    return offset_row * (2 * window_size - 1) + offset_column


class GlobalLocalAttention(nn.Module):
    """Attention inside windows, averaged along rows and columns, plus a local branch of a 1x1 and a 3x3 convolution.

    Args:
        channels: Width of input and output, divisible by ``num_heads``.
        num_heads: Attention heads.
        window_size: Side of a window in cells, >= 2.
        norm_cfg: Config of the norm layers.
    """

    def __init__(self, channels: int, num_heads: int, window_size: int, norm_cfg: dict) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.scale = (channels // num_heads) ** -0.5

        self.qkv = nn.Sequential(nn.Conv2d(channels, 3 * channels, 1, bias=False))
        self.local1 = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), build_norm_layer(norm_cfg, channels)[1])
        self.local2 = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), build_norm_layer(norm_cfg, channels)[1])
        self.proj = nn.Sequential(
            nn.Conv2d(channels, channels, window_size, padding=(window_size - 1) // 2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            build_norm_layer(norm_cfg, channels)[1])

        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer('relative_position_index', relative_position_index(window_size))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        out = self._context(self._window_attention(x)) + self.local2(x) + self.local1(x)
        # An even kernel shrinks the map by one cell: the reflected row and column make up for it.
        extra = 1 - self.window_size % 2
        return self.proj(reflect_pad(out, extra, extra))

    def _window_attention(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        window = self.window_size
        padded = reflect_pad(x, -width % window, -height % window)
        channels, rows, columns = x.shape[1], padded.shape[-2] // window, padded.shape[-1] // window

        # (N, 3 * heads * d, rows * w, columns * w) -> 3 x (N * rows * columns, heads, w * w, d)
        qkv = self.qkv(padded)
        qkv = qkv.reshape(-1, 3, self.num_heads, channels // self.num_heads, rows, window, columns, window)
        qkv = qkv.permute(1, 0, 4, 6, 2, 5, 7, 3)
        query, key, value = qkv.reshape(3, -1, self.num_heads, window * window, channels // self.num_heads).unbind(0)

        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.reshape(window * window, window * window, self.num_heads).permute(2, 0, 1)
        scores = (query * self.scale) @ key.transpose(-2, -1) + bias
        out = scores.softmax(dim=-1).to(value.dtype) @ value

        # (N * rows * columns, heads, w * w, d) -> (N, C, rows * w, columns * w), cut to the size of x
        out = out.reshape(-1, rows, columns, self.num_heads, window, window, channels // self.num_heads)
        out = out.permute(0, 3, 6, 1, 4, 2, 5).reshape(-1, channels, rows * window, columns * window)
        return out[:, :, :height, :width]

    def _context(self, x: Tensor) -> Tensor:
        """Sum of the means over a window's height and over its width: carries information across window borders."""
        window = self.window_size
        before = window // 2 - 1 if window % 2 == 0 else window // 2
        extra = 1 - window % 2
        down = F.avg_pool2d(reflect_pad(x, 0, extra), (window, 1), stride=1, padding=(before, 0))
        across = F.avg_pool2d(reflect_pad(x, extra, 0), (1, window), stride=1, padding=(0, before))
        return down + across


class ConvMLP(nn.Module):
    """Two 1x1 convolutions with ReLU6 between them.

    Args:
        channels: Width of input and output.
        hidden_channels: Width between the convolutions.
        drop_rate: Dropout after each convolution, 0..1.
    """

    def __init__(self, channels: int, hidden_channels: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden_channels, 1)
        self.act = nn.ReLU6()
        self.fc2 = nn.Conv2d(hidden_channels, channels, 1)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class GlobalLocalBlock(nn.Module):
    """Norm, global-local attention, norm, MLP, with two residual paths.

    Args:
        channels: Width of input and output.
        num_heads: Attention heads.
        window_size: Side of a window in cells.
        norm_cfg: Config of the norm layers.
        mlp_ratio: Hidden width of the MLP as a multiple of ``channels``.
        drop_rate: Dropout in the MLP, 0..1.
        drop_path_rate: Stochastic depth of both paths, 0..1.
    """

    def __init__(self, channels: int, num_heads: int, window_size: int, norm_cfg: dict, mlp_ratio: float = 4.0,
                 drop_rate: float = 0.0, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.attn = GlobalLocalAttention(channels, num_heads, window_size, norm_cfg)
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]
        self.mlp = ConvMLP(channels, int(mlp_ratio * channels), drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
