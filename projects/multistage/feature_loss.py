"""Distillation of where a network looks: spatial attention maps, which need no further parameters."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


@MODELS.register_module()
class FeatureDistillationLoss(nn.Module):
    """Attention transfer (Zagoruyko & Komodakis 2017, arXiv:1612.03928, equation 2), as a mean.

    A map is ``mean_c |F_c|^power``, flattened and divided by its L2 norm; the loss is the squared difference of both
    maps, summed over the positions, averaged over the images: between 0 and 2 for maps, which have no negative values.
    Maps have no channels, so that any two networks compare; the finer one is averaged down to the coarser one's size.

    Args:
        student_level: Index into the student's features (the backbone's, or the neck's where there is one).
        teacher_level: Index into the teacher's.
        power: Exponent p, at least 1. Default 2.
    """

    def __init__(self, student_level: int = -1, teacher_level: int = -1, power: float = 2.0) -> None:
        super().__init__()
        if power < 1:
            raise UserError(f'FeatureDistillationLoss.power: expected at least 1, found {power}')
        self.student_level, self.teacher_level, self.power = student_level, teacher_level, power

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Features (N, C, H, W), one a level.
            teacher: Features (N, C', H', W'), taken as constants.

        Raises:
            UserError: There is no such level.
        """
        with torch.autocast(student[0].device.type, enabled=False):
            own = self._map(_level(student, self.student_level, 'student_level'))
            other = self._map(_level(teacher, self.teacher_level, 'teacher_level').detach())
            size = [min(a, b) for a, b in zip(own.shape[2:], other.shape[2:])]
            own, other = (F.normalize(F.adaptive_avg_pool2d(one, size).flatten(1)) for one in (own, other))
            return (own - other).square().sum(1).mean()

    def _map(self, features: Tensor) -> Tensor:
        return features.float().abs().pow(self.power).mean(1, keepdim=True)  # (N, 1, H, W)


def _level(features: Sequence[Tensor], level: int, key: str) -> Tensor:
    if not -len(features) <= level < len(features):
        raise UserError(f'FeatureDistillationLoss.{key}: expected an index into {len(features)} levels, found {level}')
    return features[level]
