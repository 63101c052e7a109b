"""The stacked hourglass: a backbone that looks at an image in five sizes, several times over."""

from collections.abc import Callable

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from projects.engine.errors import UserError

Score = Callable[[int, Tensor], Tensor]
"""From the number of a stack and its features ``(B, C, h, w)`` to what a head says of them ``(B, K, h, w)``."""


class Bottleneck(nn.Module):
    """Pre-activation bottleneck: 1x1, 3x3, 1x1, from ``channels`` to twice ``width``, plus its input."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, width, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)
        self.bn3, self.conv3 = nn.BatchNorm2d(width), nn.Conv2d(width, 2 * width, 1)
        self.downsample = nn.Sequential(nn.Conv2d(channels, 2 * width, 1)) if channels != 2 * width else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        return out + (x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    """Down ``depth`` times by two and up again, with a bottleneck beside each level."""

    def __init__(self, channels: int, blocks: int, depth: int) -> None:
        super().__init__()

        def group() -> nn.Sequential:
            return nn.Sequential(*(Bottleneck(channels, channels // 2) for _ in range(blocks)))

        # level 0 is the smallest; it alone has a fourth group, its bottom
        self.hg = nn.ModuleList(
            nn.ModuleList(group() for _ in range(3 if level else 4)) for level in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        return self._level(len(self.hg) - 1, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        beside, down, up, *bottom = self.hg[level]
        low = down(F.max_pool2d(x, 2, 2))
        low = self._level(level - 1, low) if level else bottom[0](low)
        return beside(x) + F.interpolate(up(low), size=x.shape[-2:])


@MODELS.register_module()
class StackedHourglass(BaseModule):
    """Hourglasses one after another at a quarter of the image, each told what a head made of the one before.

    7x7 convolution of stride 2, bottlenecks to ``channels``, then ``num_stacks`` times: hourglass, bottleneck, 1x1.
    Its outputs are the features of every stack, the last one last. A stack begins with the features that the one
    before began with, plus its output, plus what ``score`` said of that (``feedback_channels`` numbers a cell).

    Args:
        in_channels: Bands of the image. Default 3.
        channels: Of all features from the first stack on; a multiple of 4. Default 256.
        depth: Halvings inside an hourglass; the image's sides are multiples of 4 * 2^depth. Default 4.
        num_stacks: Default 2.
        num_blocks: Bottlenecks a group. Default 1.
        feedback_channels: K of ``score``; 0 (default) feeds back features only, as beside any mmseg head.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: A number is out of its range; the image's sides do not divide.

    Source: Newell et al., Stacked Hourglass Networks, ECCV 2016, in the layout of Zhou et al., L-CNN, ICCV 2019
    (specs/roofline.md, "Network").
    """

    def __init__(self, in_channels: int = 3, channels: int = 256, depth: int = 4, num_stacks: int = 2,
                 num_blocks: int = 1, feedback_channels: int = 0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if channels < 4 or channels % 4 or min(depth, num_stacks, num_blocks) < 1:
            raise UserError('StackedHourglass: expected channels in fours, and depth, num_stacks and num_blocks of at '
                            f'least 1, found {channels}, {depth}, {num_stacks} and {num_blocks}')
        self.divisor = 4 * 2 ** depth
        self.feedback_channels = feedback_channels
        quarter = channels // 4
        self.conv1, self.bn1 = nn.Conv2d(in_channels, quarter, 7, stride=2, padding=3), nn.BatchNorm2d(quarter)
        self.layer1 = nn.Sequential(Bottleneck(quarter, quarter))
        self.layer2 = nn.Sequential(Bottleneck(2 * quarter, 2 * quarter))
        self.layer3 = nn.Sequential(Bottleneck(channels, channels // 2))
        self.hg = nn.ModuleList(Hourglass(channels, num_blocks, depth) for _ in range(num_stacks))
        self.res = nn.ModuleList(
            nn.Sequential(*(Bottleneck(channels, channels // 2) for _ in range(num_blocks))) for _ in range(num_stacks))
        self.fc = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())
            for _ in range(num_stacks))
        self.fc_ = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_stacks - 1))
        self.score_ = nn.ModuleList(
            nn.Conv2d(feedback_channels, channels, 1) for _ in range(num_stacks - 1) if feedback_channels)

    def forward(self, x: Tensor, score: Score | None = None) -> tuple[Tensor, ...]:
        """Return the features of every stack, each (B, channels, H / 4, W / 4).

        Args:
            x: Images (B, in_channels, H, W).
            score: What is fed back; needed where ``feedback_channels`` is not 0.
        """
        if x.shape[-2] % self.divisor or x.shape[-1] % self.divisor:
            raise UserError(f'StackedHourglass: expected images whose sides are multiples of {self.divisor}, found '
                            f'{x.shape[-2]} x {x.shape[-1]}')
        if self.feedback_channels and score is None:
            raise UserError(f'StackedHourglass: feedback_channels {self.feedback_channels}: expected a head that '
                            'scores each stack, found none: set 0')
        x = self.layer1(F.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(F.max_pool2d(x, 2, 2)))
        found = []
        for number, (hourglass, residual, fc) in enumerate(zip(self.hg, self.res, self.fc)):
            features = fc(residual(hourglass(x)))
            found.append(features)
            if number < len(self.fc_):
                x = x + self.fc_[number](features)
                if self.feedback_channels:
                    x = x + self.score_[number](score(number, features))
        return tuple(found)
