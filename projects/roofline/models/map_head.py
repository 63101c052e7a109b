"""Junction, line and offset maps of every stack, and the calibration of the junction map."""

from typing import NamedTuple

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


class RoofMaps(NamedTuple):
    """What one stack says, before any sigmoid or softmax; T junction types.

    raw: (B, T, 2, h, w) logits of background and junction. jmap: the same, calibrated. lmap: (B, h, w) logit of a line.
    joff: (B, T, 2, h, w) offsets (dy, dx) before the sigmoid.
    """

    raw: Tensor
    jmap: Tensor
    lmap: Tensor
    joff: Tensor


class JunctionCalibration(nn.Module):
    """The published QCCM: ``[conv3x3 BN ReLU] x 2, 1x1``, plus ``upsample(conv3x3(maxpool2(raw)))``.

    Junction types go through it one by one, with the same weights.

    Args:
        hidden: Channels between. Default 128.

    Source: specs/roofline.md, "Network" (junction calibration).
    """

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.conv_jmap = nn.Sequential(
            nn.Conv2d(2, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, 2, 1))
        self.latlayer = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, raw: Tensor) -> Tensor:
        """Return calibrated logits (N, 2, h, w) of raw ones."""
        coarse = self.latlayer(F.max_pool2d(raw, 2, 2, ceil_mode=True))
        fine = self.conv_jmap[:-1](raw)
        with torch.autocast(raw.device.type, enabled=False):
            fine = self.conv_jmap[-1](fine.float())
        return fine + F.interpolate(coarse.float(), size=raw.shape[-2:], mode='bilinear', align_corners=True)


@MODELS.register_module()
class RoofMapHead(BaseModule):
    """Three small heads a stack (3x3, ReLU, 1x1), and one calibration for all stacks.

    Args:
        in_channels: Of the features.
        num_stacks: Feature maps that are read, each with heads of its own. Default 1.
        num_types: T, types of junctions. Default 1.
        hidden: Channels between the two convolutions. Default 64.
        calibration: Channels inside the calibration. Default 128.
        init_cfg: As for every mmengine module.

    Source: specs/roofline.md, "Network".
    """

    def __init__(self, in_channels: int, num_stacks: int = 1, num_types: int = 1, hidden: int = 64,
                 calibration: int = 128, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.num_types = num_types
        self.sizes = (2 * num_types, 1, 2 * num_types)  # jmap, lmap, joff

        def head(channels: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(in_channels, hidden, 3, padding=1), nn.ReLU(),
                                 nn.Conv2d(hidden, channels, 1))

        self.heads = nn.ModuleList(nn.ModuleList(head(size) for size in self.sizes) for _ in range(num_stacks))
        self.calibrate = JunctionCalibration(calibration)

    @property
    def out_channels(self) -> int:
        """Channels of :meth:`score`."""
        return sum(self.sizes)

    def score(self, stack: int, features: Tensor) -> Tensor:
        """Return the maps of one stack side by side (B, 4 T + 1, h, w): what an hourglass is told."""
        between = [head[:-1](features) for head in self.heads[stack]]
        with torch.autocast(features.device.type, enabled=False):  # 8 bits would make plateaus of peaks
            return torch.cat([head[-1](one.float()) for head, one in zip(self.heads[stack], between)], 1)

    def forward(self, scores: Tensor) -> RoofMaps:
        """Take :meth:`score` apart and calibrate its junction map."""
        raw, lmap, joff = scores.split(self.sizes, 1)
        raw = raw.unflatten(1, (self.num_types, 2))
        jmap = self.calibrate(raw.flatten(0, 1)).unflatten(0, raw.shape[:2])
        return RoofMaps(raw, jmap, lmap[:, 0], joff.unflatten(1, (self.num_types, 2)))
