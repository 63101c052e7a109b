"""How near a cell is to a junction: the Gaussian that forgives a detector its near misses."""

import math

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from projects.engine.errors import UserError

FAR = 1e9  # squared cells; not infinity, whose gradient to a learnt sigma would be NaN


@MODELS.register_module()
class GaussianTarget(nn.Module):
    """``G(p) = max_c exp(-(|p - c| / sigma)^2 / 2)`` over the junction cells c, and 0 where that is below the floor.

    The maximum of the Gaussians is the Gaussian of the nearest junction, and squared distances separate: the nearest
    in a row, then the nearest of those in a column. Both are exact, integers, and cost 2 (2r + 1) comparisons a cell,
    r being where the Gaussian falls to the floor (4 cells by default), however many junctions there are.

    Args:
        sigma: Width in cells, > 0. Default 2.
        floor: What is smaller counts as nothing, inside (0, 1). Default 0.05.
        learnable: Train sigma, between half and twice what it begins with. Default False: G is a constant. Mind that
            :class:`FocalGaussianLoss` falls wherever G grows: a learnt sigma only ever widens, towards twice its start.

    Raises:
        UserError: sigma or floor lies outside its range.

    Source: specs/roofline.md, "Network" (dynamic Gaussian target); the shape of the target is that of Law and Deng,
    CornerNet, ECCV 2018, section 3.2.
    """

    def __init__(self, sigma: float = 2.0, floor: float = 0.05, learnable: bool = False) -> None:
        super().__init__()
        if sigma <= 0:
            raise UserError(f'GaussianTarget: sigma: expected cells > 0, found {sigma}')
        if not 0 < floor < 1:
            raise UserError(f'GaussianTarget: floor: expected a number inside (0, 1), found {floor}')
        self.start, self.floor = float(sigma), float(floor)
        self.width = nn.Parameter(torch.zeros(())) if learnable else None  # sigma = start * 2^tanh(width)
        widest = self.start * (2 if learnable else 1)
        self.reach = math.floor(widest * math.sqrt(-2 * math.log(self.floor)) + 1e-9)

    @property
    def sigma(self) -> float | Tensor:
        """The width in cells; a float32 scalar tensor with a gradient when it is learnt."""
        return self.start if self.width is None else self.start * torch.exp2(torch.tanh(self.width.float()))

    def forward(self, jmap: Tensor) -> Tensor:
        """Return G in 0..1, exactly 1 at junctions: (B, T, h, w) float32, of each junction type apart.

        Args:
            jmap: 1 at the cells of junctions, 0 elsewhere (B, T, h, w).
        """
        square = torch.zeros_like(jmap, dtype=torch.float32).masked_fill(jmap < 0.5, FAR)
        square = self._nearest(square)  # in the row
        square = self._nearest(square.mT).mT  # and in the column
        gaussian = torch.exp(square / (-2 * self.sigma ** 2))
        return torch.where(gaussian < self.floor, 0, gaussian)

    def _nearest(self, square: Tensor) -> Tensor:
        """Return ``min_d square(p + d) + d^2`` along the last axis, |d| up to the reach."""
        steps = torch.arange(-self.reach, self.reach + 1, device=square.device, dtype=square.dtype).square()
        shifted = F.pad(square, (self.reach, self.reach), value=FAR).unfold(-1, len(steps), 1)
        return (shifted + steps).amin(-1)
