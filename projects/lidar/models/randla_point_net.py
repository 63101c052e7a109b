"""A baseline of the field under the same inputs: local spatial encoding, attentive pooling, dilated residual blocks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.lidar.models.gathering import gather_max
from projects.lidar.models.levels import Levels

SLOPE = 0.2


class RowNorm(nn.BatchNorm1d):
    """Batch norm over rows (..., C) of any number; a single row takes the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., C)."""
        rows = x.flatten(0, -2)
        if self.training and len(rows) > 1:
            return super().forward(rows).view_as(x)
        return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0,
                            self.eps).view_as(x)


class Layer(nn.Sequential):
    """Linear, batch norm, leaky ReLU (unless ``activate`` is False) on rows (..., C)."""

    def __init__(self, in_channels: int, out_channels: int, activate: bool = True) -> None:
        parts = [nn.Linear(in_channels, out_channels, bias=False), RowNorm(out_channels)]
        super().__init__(*parts, *([nn.LeakyReLU(SLOPE, inplace=True)] if activate else []))


class EncodedPooling(nn.Module):
    """Local spatial encoding of the neighbours, then attentive pooling over them (paper, section 3.2).

    A neighbour's features are joined by an encoding of (distance, offset, own position, its position); a softmax over
    the neighbours, channel by channel, weighs their sum.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.encode = Layer(10, in_channels)
        self.score = nn.Linear(2 * in_channels, 2 * in_channels, bias=False)
        self.out = Layer(2 * in_channels, out_channels)

    def forward(self, x: Tensor, places: Tensor, index: Tensor) -> Tensor:
        """Turn rows (M, in_channels), encodings' inputs (M, k, 10) and lists (M, k) into (M, out_channels)."""
        neighbours = x.index_select(0, index.flatten()).unflatten(0, index.shape)  # (M, k, C)
        near = torch.cat((neighbours, self.encode(places).to(x.dtype)), dim=-1)  # (M, k, 2C)
        share = self.score(near).float().softmax(dim=1)
        return self.out((share * near).sum(1))


class DilatedResidualBlock(nn.Module):
    """Two poolings in a row (the neighbours' neighbours are seen) between pointwise layers, beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        quarter, half = out_channels // 4, out_channels // 2
        self.narrow = Layer(in_channels, quarter)
        self.first = EncodedPooling(quarter, quarter)
        self.second = EncodedPooling(quarter, half)
        self.widen = Layer(half, out_channels, activate=False)
        self.shortcut = Layer(in_channels, out_channels, activate=False)

    def forward(self, x: Tensor, places: Tensor, index: Tensor) -> Tensor:
        """Map rows (M, in_channels) to (M, out_channels)."""
        y = self.first(self.narrow(x), places, index)
        y = self.widen(self.second(y, places, index))
        return F.leaky_relu(y + self.shortcut(x), SLOPE)


@MODELS.register_module()
class RandLAPointNet(BaseModule):
    """RandLA-Net over the farthest-point pyramid; features of every point.

    As in the paper: on every level but the last a dilated residual block over the 16 nearest neighbours, then a
    quarter of the points goes on, each with the largest features around it; the decoder copies the nearest coarse
    point and passes an MLP; two dense layers end it. Other than in the paper the points that go on are the first in
    farthest-point order, so that both networks read one graph, and patch size and density are not used. Padding is
    taken out before the first layer: batch norm sees points only.

    The graph has to hold ``near`` of all levels but the last:
    ``collate_fn=dict(type='collate_points', near_levels=(0, 1, 2, 3))``.

    Args:
        in_channels: Features of a point F. Default 21.
        widths: Channels after the first layer and after each block. Default the paper's; multiples of 4 from the
            second on.
        out_widths: Of the two layers at the end. Default (64, 32).
        init_cfg: As for every mmengine module.

    Raises:
        UserError: A width is no multiple of 4; in forward, a list of neighbours is missing.

    Source: Hu et al., RandLA-Net, CVPR 2020, figures 3 and 7. Written from the paper.
    """

    def __init__(self, in_channels: int = 21, widths: Sequence[int] = (8, 32, 128, 256, 512),
                 out_widths: Sequence[int] = (64, 32), init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        for width in widths[1:]:
            if width % 4:
                raise UserError(f'RandLAPointNet: widths: expected multiples of 4 from the second on, found {width}')
        first, *blocks = widths
        self.out_channels = out_widths[-1]
        self.stem = Layer(in_channels, first)
        self.blocks = nn.ModuleList(DilatedResidualBlock(here, following) for here, following in zip(widths, blocks))
        self.bottom = Layer(blocks[-1], blocks[-1])
        skips = [blocks[0], *blocks[:-1]]  # level 0 skips the first block's output before the points are thinned out
        coarse = [*skips[1:], blocks[-1]]
        self.up = nn.ModuleList(Layer(skip + below, skip) for skip, below in zip(skips, coarse))
        self.out = nn.Sequential(*(Layer(*pair) for pair in zip((skips[0], *out_widths), out_widths)))

    def forward(self, inputs: dict) -> Tensor:
        """Return features (B, N, out_widths[-1]) of every row; those of padding are 0.

        Args:
            inputs: See :class:`projects.lidar.models.point_segmentor.PointSegmentor`.
        """
        levels = Levels.of(inputs)
        for level, near in enumerate(levels.near[:-1]):
            if near.shape[1] == 0:
                raise UserError(f'RandLAPointNet: graph.near[{level}]: expected neighbours, found none; set '
                                'collate_fn.near_levels=(0, 1, 2, 3)')
        rows = [mask.flatten().nonzero().squeeze(1) for mask in levels.masks]
        number = [mask.flatten().cumsum(0) - 1 for mask in levels.masks]  # of a row among the points
        points = [of_level.flatten(0, 1)[kept] for of_level, kept in zip(levels.points, rows)]
        x = self.stem(inputs['features'].flatten(0, 1)[rows[0]])
        skips: list[Tensor] = []
        for level, block in enumerate(self.blocks):
            index = number[level][levels.near[level][rows[level]]]  # (M, k)
            x = block(x, _places(points[level], index), index)
            if not skips:
                skips.append(x)
            x = gather_max(x, index[_first(levels.masks, number, level)])
            skips.append(x)
        x = self.bottom(skips.pop())
        for level in reversed(range(len(self.up))):
            nearest = number[level + 1][levels.up[level][rows[level], 0]]
            x = self.up[level](torch.cat((skips.pop(), x.index_select(0, nearest)), dim=1))
        x = self.out(x)
        padded = x.new_zeros(levels.masks[0].numel(), x.shape[1]).index_copy(0, rows[0], x)
        return padded.view(*levels.masks[0].shape, -1)


def _first(masks: list[Tensor], number: list[Tensor], level: int) -> Tensor:
    """Return which of a level's points the next level holds."""
    following = F.pad(masks[level + 1], (0, masks[level].shape[1] - masks[level + 1].shape[1]))
    return number[level][following.flatten()]


@torch.no_grad()
def _places(points: Tensor, index: Tensor) -> Tensor:
    """Return (distance, offset, own position, neighbour's position) of points (M, 3): (M, k, 10), metres."""
    own = points.unsqueeze(1).expand(-1, index.shape[1], -1)
    other = points[index]
    offset = own - other
    return torch.cat((offset.norm(dim=-1, keepdim=True), offset, own, other), dim=-1)
