"""A decoder of group-wise gated units, coarse to fine."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as a matrix product: in channels-last nothing is copied, and small maps take no slow path."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W), channels-last."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1)).permute(0, 3, 1, 2)


def mean_of_map(x: Tensor) -> Tensor:
    """Average a map (N, C, H, W) to (N, C).

    As a matrix product, whose gradient lies channels-last; the one of ``mean`` is expanded and would turn the gradient
    of the whole map it is a part of to NCHW.
    """
    cells = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, H*W, C)
    return (cells.new_full((1, cells.shape[1]), 1 / cells.shape[1]) @ cells).squeeze(1)


class GroupedGateUnit(nn.Module):
    """Groups of channels that speak one after another, weighed against each other, beside a residual.

    A 1x1 convolution widens the map to ``groups`` groups. Each group reads its own channels and the fork of the group
    before, and emits three parts of ``channels`` each: out, fork and gate (the last group has no one to fork to). The
    gates, averaged over the map, pass an MLP whose softmax over the groups weighs the outs; a 3x3 convolution fuses
    them into the residual. A group's convolution is depthwise 3x3, then 1x1: with full 3x3 ones the four units would
    cost 44 % of the multiplications of a PVTv2-b2 instead of 17 %.

    Args:
        width: Channels of input and output.
        channels: Channels of a group.
        groups: Number of groups, at least 2.
        norm_cfg: Config of the norm layers.
        act_cfg: Config of the activations.
    """

    def __init__(self, width: int, channels: int, groups: int, norm_cfg: dict, act_cfg: dict) -> None:
        super().__init__()
        self.channels, self.groups = channels, groups
        self.expand = nn.Sequential(
            Pointwise(width, groups * channels), build_norm_layer(norm_cfg, groups * channels)[1],
            build_activation_layer(act_cfg))
        self.speak = nn.ModuleList()
        for group in range(groups):
            inputs = channels if group == 0 else 2 * channels
            outputs = 2 * channels if group == groups - 1 else 3 * channels
            self.speak.append(nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), Pointwise(inputs, outputs),
                build_norm_layer(norm_cfg, outputs)[1], build_activation_layer(act_cfg)))
        self.gate = nn.Sequential(
            nn.Linear(groups * channels, channels), nn.ReLU(), nn.Linear(channels, groups * channels))
        self.fuse = nn.Sequential(
            nn.Conv2d(groups * channels, width, 3, padding=1, bias=False), build_norm_layer(norm_cfg, width)[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        outs, weights = self.outs_and_weights(x)
        outs = outs * weights.flatten(1)[:, :, None, None].to(outs.dtype)
        return F.relu(x + self.fuse(outs))

    def outs_and_weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outs (N, groups*channels, H, W) and their weights (N, groups, channels), 1 in all groups together.
        """
        outs, gates, fork = [], [], None
        for own, speak in zip(self.expand(x).chunk(self.groups, dim=1), self.speak):
            said = speak(own if fork is None else torch.cat((own, fork), dim=1))
            out, gate, *rest = said.split(self.channels, dim=1)
            fork = rest[0] if rest else None
            outs.append(out)
            gates.append(mean_of_map(gate))
        gates = self.gate(torch.cat(gates, dim=1)).unflatten(1, (self.groups, self.channels))
        return torch.cat(outs, dim=1), gates.float().softmax(dim=1)


@MODELS.register_module()
class GroupedGateHead(BaseDecodeHead):
    """Decode four maps from coarse to fine, one gated unit a level; logits at the finest map's size (1/4).

    Each map passes a 1x1 convolution to a common width; the level above is enlarged and added; then comes a
    :class:`GroupedGateUnit`. Any backbone with four maps may feed it.

    Args:
        in_channels: Widths of the four maps, finest first. PVTv2-b2: (64, 128, 320, 512).
        channels: Channels of a group. Default 32.
        groups: Groups of a unit, at least 2. Default 6.
        width: Common width of the levels. Default 64.
        num_classes: Number of classes. Default 2.
        out_channels: Channels of the logits: 1 (one logit for two classes) or ``num_classes``. Default 1.
        threshold: Probability from which on a pixel is an object, where ``out_channels`` is 1. Default 0.5.
        dropout_ratio: Dropout2d before the last convolution, 0..1. Default 0.
        norm_cfg: Config of the norm layers. Default ``GN`` of 8 groups: it trains at batch 1 and on maps of 1x1.
        loss_decode: Config of the losses. Default: binary cross entropy, or cross entropy with more than one channel.
        kwargs: Further arguments of mmseg's ``BaseDecodeHead`` (``ignore_index``, ``sampler``, ...).

    Raises:
        UserError: There are not four maps, fewer than two groups, or widths that the groups of a ``GN`` do not divide.

    Source: the rich-granularity unit of Pang et al., ZoomNeXt, TPAMI 46 (2024), in its idea, not layer by layer.
    """

    def __init__(self, in_channels: Sequence[int] = (64, 128, 320, 512), channels: int = 32, groups: int = 6,
                 width: int = 64, *, num_classes: int = 2, out_channels: int = 1, threshold: float | None = 0.5,
                 dropout_ratio: float = 0.0, norm_cfg: dict | None = None,
                 loss_decode: dict | Sequence[dict] | None = None, **kwargs) -> None:
        if len(in_channels) != 4:
            raise UserError(f'GroupedGateHead: in_channels: expected 4 widths, found {tuple(in_channels)}')
        if groups < 2:
            raise UserError(f'GroupedGateHead: groups: expected at least 2, found {groups}')
        norm_cfg = norm_cfg or dict(type='GN', num_groups=8)
        parts = norm_cfg.get('num_groups', 1) if norm_cfg['type'] == 'GN' else 1
        for name, value in (('channels', channels), ('width', width)):
            if value < 1 or value % parts:
                raise UserError(f'GroupedGateHead: {name}: expected a multiple of norm_cfg.num_groups={parts}, '
                                f'found {value}')
        if loss_decode is None:
            loss_decode = dict(type='CrossEntropyLoss', use_sigmoid=out_channels == 1)
        super().__init__(
            list(in_channels), width, num_classes=num_classes, out_channels=out_channels, threshold=threshold,
            dropout_ratio=dropout_ratio, norm_cfg=norm_cfg, loss_decode=loss_decode, in_index=(0, 1, 2, 3),
            input_transform='multiple_select', **kwargs)
        self.laterals = nn.ModuleList(
            nn.Sequential(Pointwise(inputs, width), build_norm_layer(norm_cfg, width)[1]) for inputs in in_channels)
        self.units = nn.ModuleList(
            GroupedGateUnit(width, channels, groups, norm_cfg, self.act_cfg) for _ in in_channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Turn the four maps into logits (N, out_channels, H/4, W/4)."""
        x = None
        for lateral, unit, level in reversed(list(zip(self.laterals, self.units, self._transform_inputs(inputs)))):
            level = lateral(level)
            if x is not None:
                level = level + F.interpolate(x, size=level.shape[-2:], mode='bilinear', align_corners=False)
            x = unit(level)
        return self.cls_seg(x)
