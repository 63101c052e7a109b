"""The project's network: a local path of MLPs, a global path of attention, told how large and dense a patch is."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.lidar.models.conditioned_norm import ConditionedNorm, PatchCode
from projects.lidar.models.gathering import interpolate
from projects.lidar.models.levels import Levels
from projects.lidar.models.local_aggregation import LocalAggregation

SHORTEST, LONGEST = 2.0, 256.0  # metres


class SetAbstraction(nn.Module):
    """One level to the next: aggregate, normalise, activate."""

    def __init__(self, in_channels: int, out_channels: int, radius: float, code_width: int) -> None:
        super().__init__()
        self.aggregation = LocalAggregation(in_channels, out_channels, radius)
        self.norm = ConditionedNorm(out_channels, code_width)

    def forward(self, x: Tensor, code: Tensor, points: Tensor, index: Tensor, rows: int) -> Tensor:
        """Turn (B, N, in_channels) into (B, rows, out_channels)."""
        return F.relu(self.norm(self.aggregation(x, points, index, rows), code), inplace=True)


class LocalBlock(nn.Module):
    """Inverted residual MLP: aggregate over the neighbours, then widen and narrow each point, beside a residual.

    Source: Qian et al., PointNeXt, NeurIPS 2022, section 3.2; here with the norms before the layers.
    """

    def __init__(self, channels: int, radius: float, expansion: int, code_width: int) -> None:
        super().__init__()
        self.norm = ConditionedNorm(channels, code_width)
        self.aggregation = LocalAggregation(channels, channels, radius)
        self.mlp_norm = ConditionedNorm(channels, code_width)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)

    def forward(self, x: Tensor, code: Tensor, points: Tensor, index: Tensor) -> Tensor:
        """Map (B, N, C) to the same shape."""
        y = self.aggregation(self.norm(x, code), points, index, x.shape[1])
        return x + self.narrow(F.relu(self.widen(self.mlp_norm(y, code)), inplace=True))


class GlobalBlock(nn.Module):
    """Self-attention over all points of a level, then an MLP, each beside a residual; padding is no key."""

    def __init__(self, channels: int, heads: int, expansion: int, code_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = ConditionedNorm(channels, code_width)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.mlp_norm = ConditionedNorm(channels, code_width)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)

    def forward(self, x: Tensor, code: Tensor, keys: Tensor | None) -> Tensor:
        """Map (B, N, C) to the same shape; ``keys`` (B, 1, 1, N) bool says which rows are points, None: all."""
        qkv = self.qkv(self.norm(x, code)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*qkv, attn_mask=keys)  # (B, heads, N, C / heads)
        x = x + self.project(seen.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.widen(self.mlp_norm(x, code))))


class PositionCode(nn.Module):
    """Fourier codes of positions in metres: sine and cosine of 8 wavelengths from 2 to 256 m on each axis, projected.

    Positions are relative to the patch (its centre, its mean ground): where in the patch a point is, is known to the
    global path and to nothing else of the network.
    """

    def __init__(self, channels: int, wavelengths: int = 8) -> None:
        super().__init__()
        lengths = torch.logspace(math.log2(SHORTEST), math.log2(LONGEST), wavelengths, base=2)
        self.register_buffer('frequencies', 2 * math.pi / lengths, persistent=False)
        self.project = nn.Linear(6 * wavelengths, channels)

    def forward(self, points: Tensor) -> Tensor:
        """Map (B, N, 3) float32 metres to (B, N, channels)."""
        phase = (points.unsqueeze(-1) * self.frequencies).flatten(2)  # (B, N, 3 * wavelengths)
        return self.project(torch.cat((phase.sin(), phase.cos()), dim=-1))


class UpLevel(nn.Module):
    """A level's features joined by what the coarser level says, at the three nearest of its points."""

    def __init__(self, channels: int, coarse_channels: int, code_width: int) -> None:
        super().__init__()
        self.from_coarse = nn.Linear(coarse_channels, channels, bias=False)  # before the points multiply
        self.from_skip = nn.Linear(channels, channels)
        self.norm = ConditionedNorm(channels, code_width)
        self.mix = nn.Linear(channels, channels)
        self.mix_norm = ConditionedNorm(channels, code_width)

    def forward(self, skip: Tensor, coarse: Tensor, code: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Map skip (B, N, C) and coarse (B, N / 4, C') to (B, N, C)."""
        spread = interpolate(self.from_coarse(coarse).flatten(0, 1), index, weight)
        x = self.from_skip(skip) + spread.view(*skip.shape[:2], -1)
        x = F.relu(self.norm(x, code), inplace=True)
        return F.relu(self.mix_norm(self.mix(x), code), inplace=True)


@MODELS.register_module()
class HybridPointNet(BaseModule):
    """Encoder and decoder over the farthest-point pyramid of a patch; features of every point.

    A level is reached by set abstraction, then come its local blocks (inverted residual MLPs over 16 neighbours) and
    its global blocks (self-attention over the whole level with Fourier position codes in metres); all are residual,
    so both paths speak to the same features. The decoder carries a level to the finer one by inverse distance. Every
    norm is a LayerNorm with FiLM on the patch's size and density. No search, sampling or custom operator runs in it.

    Args:
        in_channels: Features of a point F. Default 21 (``projects.lidar.features``).
        widths: Channels of the levels, finest first. Default base, 9.8 M parameters; tiny is (16, 32, 64, 128, 192)
            with ``expansion=2``, 1.8 M.
        radii: Metres that offsets are measured in, from level l to l + 1; the last is the last level's own too.
        local_blocks: Number at every level; a level with blocks needs the ``near`` lists of the graph.
        global_blocks: Number at every level.
        head_width: Channels of an attention head; it divides the width of every level with global blocks. Default 32.
        expansion: Widening of the MLPs in local and global blocks. Default 4.
        code_width: Width of the embedding of size and density. Default 32.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: The arguments do not fit each other.
    """

    def __init__(self, in_channels: int = 21, widths: Sequence[int] = (32, 64, 128, 256, 384),
                 radii: Sequence[float] = (2.0, 4.0, 8.0, 16.0), local_blocks: Sequence[int] = (0, 1, 2, 3, 1),
                 global_blocks: Sequence[int] = (0, 0, 2, 4, 1), head_width: int = 32, expansion: int = 4,
                 code_width: int = 32, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        levels = len(widths)
        for name, value, expected in (('radii', radii, levels - 1), ('local_blocks', local_blocks, levels),
                                      ('global_blocks', global_blocks, levels)):
            if len(value) != expected:
                raise UserError(f'HybridPointNet: {name}: expected {expected} numbers for {levels} widths, '
                                f'found {tuple(value)}')
        for width, number in zip(widths, global_blocks):
            if number and width % head_width:
                raise UserError(f'HybridPointNet: head_width: expected a divisor of the width {width}, '
                                f'found {head_width}')
        self.out_channels = widths[0]
        self.local_blocks, self.global_blocks = tuple(local_blocks), tuple(global_blocks)
        self.code = PatchCode(code_width)
        self.stem = nn.Linear(in_channels, widths[0])
        self.stem_norm = ConditionedNorm(widths[0], code_width)
        self.down = nn.ModuleList(
            SetAbstraction(here, following, radius, code_width)
            for here, following, radius in zip(widths, widths[1:], radii))
        of_level = (*radii, radii[-1])
        self.local = nn.ModuleList(
            nn.ModuleList(LocalBlock(width, radius, expansion, code_width) for _ in range(number))
            for width, radius, number in zip(widths, of_level, local_blocks))
        self.position = nn.ModuleDict({
            str(level): PositionCode(widths[level]) for level, number in enumerate(global_blocks) if number})
        self.attention = nn.ModuleList(
            nn.ModuleList(GlobalBlock(width, width // head_width, expansion, code_width) for _ in range(number))
            for width, number in zip(widths, global_blocks))
        self.up = nn.ModuleList(
            UpLevel(here, following, code_width) for here, following in zip(widths, widths[1:]))

    def forward(self, inputs: dict) -> Tensor:
        """Return features (B, N, widths[0]) of every row; those of padding mean nothing.

        Args:
            inputs: See :class:`projects.lidar.models.point_segmentor.PointSegmentor`.
        """
        levels = Levels.of(inputs)
        code = self.code(inputs['context'])
        x = F.relu(self.stem_norm(self.stem(inputs['features']), code), inplace=True)
        x = self._blocks(0, x, code, levels)
        pyramid = [x]
        for level, down in enumerate(self.down):
            x = down(x, code, levels.points[level], levels.down[level], levels.points[level + 1].shape[1])
            x = self._blocks(level + 1, x, code, levels)
            pyramid.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](pyramid[level], x, code, levels.up[level], levels.weights[level])
        return x

    def _blocks(self, level: int, x: Tensor, code: Tensor, levels: Levels) -> Tensor:
        points = levels.points[level]
        for block in self.local[level]:
            x = block(x, code, points, levels.near[level])
        if self.global_blocks[level]:
            keys = None if levels.full else levels.masks[level][:, None, None]
            x = x + self.position[str(level)](points)
            for block in self.attention[level]:
                x = block(x, code, keys)
        return x
