"""What every fuser of scales shares: the reference scale plus a correction that starts at zero."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from projects.engine.errors import UserError


def to_tokens(x: Tensor) -> Tensor:
    """Return ``(N, C, h, w)`` as ``(C, N*h*w)``: a view of a channels-last batch and of a single image."""
    return x.transpose(0, 1).flatten(1)


def from_tokens(tokens: Tensor, like: Tensor) -> Tensor:
    """Return ``(C, N*h*w)`` as ``(N, C, h, w)``, sized as ``like``; the inverse of :func:`to_tokens`."""
    batch, _, height, width = like.shape
    return tokens.unflatten(1, (batch, height, width)).transpose(0, 1)


def divisor_up_to(number: int, limit: int) -> int:
    """Return the largest divisor of ``number`` that is at most ``limit`` (and at least 1)."""
    return next(d for d in range(min(max(limit, 1), number), 0, -1) if number % d == 0)


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type that sums and softmax are taken in: float32, or float64 where the input is."""
    return torch.promote_types(dtype, torch.float32)


class ScaleOutput(BaseModule):
    """The last 1x1 convolution of a fuser, with weight and bias zero until a training moves them.

    It is neither an ``nn.Conv2d`` nor an ``nn.Linear``, so an ``init_cfg`` of a parent that initialises all of those
    leaves it alone, and :meth:`init_weights` sets it to zero again. Weights from a checkpoint are kept.

    Args:
        channels: C, of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def init_weights(self) -> None:
        """Set weight and bias to zero, once."""
        if not self.is_init:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)
            self.is_init = True

    def forward(self, tokens: Tensor, reference: Tensor) -> Tensor:
        """Return ``(N, C, h, w)``: tokens ``(C, N*h*w)`` convolved, in size and memory format of ``reference``."""
        batch, channels, height, width = reference.shape
        last = reference.is_contiguous(memory_format=torch.channels_last) and not reference.is_contiguous()
        if last:  # a matrix product gives either format at no cost
            out = torch.addmm(self.bias, tokens.t(), self.weight.t())
            return out.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return from_tokens(torch.addmm(self.bias[:, None], self.weight, tokens), reference)


class ScaleFusion(BaseModule):
    """Base of the fusers: ``features[reference] + out(mixture of all scales)``.

    ``out`` (:class:`ScaleOutput`) is zero at first, so that a pretrained single-scale network is not disturbed: the
    result then equals ``features[reference]`` bit for bit. A subclass writes :meth:`mixture`, and
    :meth:`mixing_weights` where its mixture is a weighted mean of the scales.

    Args:
        channels: C of the level.
        num_scales: S, at least 2.
        reference: Index of the reference scale, 0..S-1.
        init_cfg: MMEngine's.

    Raises:
        UserError: A number is out of range.
    """

    has_scale_weights = True  # whether scale_weights has an answer

    def __init__(self, channels: int, num_scales: int, reference: int, init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        name = type(self).__name__
        if channels < 1:
            raise UserError(f'{name}.channels: expected at least 1, found {channels}')
        if num_scales < 2:
            raise UserError(f'{name}.num_scales: expected at least 2 scales to fuse, found {num_scales}')
        if not 0 <= reference < num_scales:
            raise UserError(f'{name}.reference: expected an index in 0..{num_scales - 1}, found {reference}')
        self.channels, self.num_scales, self.reference = channels, num_scales, reference
        self.out = ScaleOutput(channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the fused features.

        Args:
            features: S tensors ``(N, C, h, w)`` of one size, in the order of the backbone's ``scales``.

        Returns:
            ``(N, C, h, w)``, in the memory format of ``features[reference]``.
        """
        features = self._checked(features)
        reference = features[self.reference]
        return reference + self.out(self.mixture(features), reference)

    def mixture(self, features: Sequence[Tensor]) -> Tensor:
        """Return what the output convolution is given: ``(C, N*h*w)``."""
        raise NotImplementedError

    def scale_weights(self, features: Sequence[Tensor]) -> Tensor:
        """Return each scale's share in the mixture ``(N, S, h, w)``: float32, summing to 1 over S.

        Args:
            features: As :meth:`forward` takes them.

        Raises:
            UserError: The mixture is no weighted mean of the scales.
        """
        if not self.has_scale_weights:
            raise UserError(f'{type(self).__name__} weighs no scales: expected ABSIFusion or GatedFusion for scale '
                            'maps')
        return self.mixing_weights(self._checked(features)).float()

    def mixing_weights(self, features: Sequence[Tensor]) -> Tensor:
        """Return ``(N, S, h, w)``, summing to 1 over S."""
        raise NotImplementedError

    def _checked(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        if torch.jit.is_tracing():  # sizes are tensors in an export
            return features
        shapes = {tuple(x.shape) for x in features}
        if len(features) != self.num_scales or len(shapes) != 1 or next(iter(shapes))[1] != self.channels:
            raise ValueError(f'{type(self).__name__}: expected {self.num_scales} tensors (N, {self.channels}, h, w) of '
                             f'one size, found {[tuple(x.shape) for x in features]}')
        return features
