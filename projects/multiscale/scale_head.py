"""A light head on the features of one scale alone: what that scale sees by itself, for its own supervision."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


@MODELS.register_module()
class ScaleHead(BaseModule):
    """Logits from one pyramid: 1x1 to ``channels`` a level, summed at the finest level, GELU, 1x1 to the classes.

    There is no batch normalisation: each scale has a head of its own, batches may be of one image, and scales differ in
    their statistics. It costs next to nothing beside a backbone and is never run in a prediction.

    Args:
        in_channels: Channels of the levels that are used, in the order of ``in_index``.
        channels: Width inside the head.
        num_classes: Classes of the data set, at least 2.
        out_channels: Channels of the logits: ``num_classes`` (None), or 1 for two classes in one channel (sigmoid).
        in_index: Levels of the pyramid, counted from 0; None: one for each of ``in_channels``, from the first.
        init_cfg: How weights start; by default the output layer from N(0, 0.01).

    Raises:
        UserError: The arguments contradict each other, or (when it runs) the pyramid.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 32, num_classes: int = 2,
                 out_channels: int | None = None, in_index: Sequence[int] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg or dict(type='Normal', std=0.01, override=dict(name='conv_seg')))
        in_channels = tuple(in_channels)
        in_index = tuple(range(len(in_channels)) if in_index is None else in_index)
        if not in_channels or len(in_channels) != len(in_index):
            raise UserError(f'scale_head.in_channels: expected one number for each of the levels in_index={in_index}, '
                            f'found {in_channels}')
        out_channels = num_classes if out_channels is None else out_channels
        if num_classes < 2 or (out_channels != num_classes and (num_classes, out_channels) != (2, 1)):
            raise UserError(f'scale_head.out_channels: expected num_classes={num_classes} (at least 2), or 1 for two '
                            f'classes, found {out_channels}')
        self.num_classes, self.out_channels = num_classes, out_channels
        self.in_channels, self.in_index = in_channels, in_index
        self.lateral = nn.ModuleList([nn.Conv2d(number, channels, 1) for number in in_channels])
        self.act = nn.GELU()
        self.conv_seg = nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map a pyramid, (N, C_i, h_i, w_i) each, to logits (N, out_channels, h, w) at its finest used level."""
        if max(self.in_index) >= len(features):
            raise UserError(f'scale_head.in_index: expected levels below {len(features)}, found {self.in_index}')
        used = [features[index] for index in self.in_index]
        found = tuple(feature.shape[1] for feature in used)
        if found != self.in_channels:
            raise UserError(f'scale_head.in_channels: expected {found}, the channels of levels {self.in_index}, found '
                            f'{self.in_channels}')
        size = max((tuple(feature.shape[-2:]) for feature in used), key=lambda side: side[0] * side[1])
        total = None
        for conv, feature in zip(self.lateral, used):
            level = conv(feature)
            if tuple(level.shape[-2:]) != size:
                level = F.interpolate(level, size, mode='bilinear', align_corners=False)
            total = level if total is None else total + level
        return self.conv_seg(self.act(total))
