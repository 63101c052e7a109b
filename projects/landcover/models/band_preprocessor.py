"""Normalisation of images with any number of bands."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS

from projects.engine.errors import UserError


@MODELS.register_module()
class BandDataPreProcessor(SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor`` without its limit to one or three bands.

    Args:
        mean: Mean of each band on the 0..255 scale, in the order in which the bands are read.
        std: Standard deviation of each band, positive.
        kwargs: As for ``SegDataPreProcessor``.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise UserError(f'data_preprocessor: expected a mean and a positive std for each band, found {mean}, {std}')
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)
        self._enable_normalize = True
