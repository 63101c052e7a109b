"""Colours that another camera, another sun, or no camera would have given."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError
from projects.lidar.features import INDEX

COLOUR = slice(INDEX['red'], INDEX['blue'] + 1)
CHANNELS = slice(INDEX['red'], INDEX['nir'] + 1)


@TRANSFORMS.register_module()
class DropColour(BaseTransform):
    """Take a patch's colour or infrared away, with the flags that say they are there: the network must do without.

    Args:
        prob: How often colour and infrared go. Default: 0.2.
        nir_prob: How often infrared alone goes. Default: 0.1.
    """

    def __init__(self, prob: float = 0.2, nir_prob: float = 0.1) -> None:
        if not 0 <= prob <= 1 or not 0 <= nir_prob <= 1:
            raise UserError(f'DropColour: expected probabilities of 0 to 1, found {prob} and {nir_prob}')
        self.prob, self.nir_prob = prob, nir_prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        colour, infrared = np.random.rand(2) < (self.prob, self.nir_prob)
        if not (colour or infrared):
            return results
        features = results['features'].copy()
        for name in ('nir', 'ndvi', 'has_nir', *(('red', 'green', 'blue', 'has_colour') if colour else ())):
            features[:, INDEX[name]] = 0
        return {**results, 'features': features}


@TRANSFORMS.register_module()
class VaryColour(BaseTransform):
    """Make a patch brighter or darker: one factor for colour and infrared, so that NDVI stays what it is.

    Args:
        ratio: Largest change, below 1. Default: 0.2, a factor of 0.8 to 1.2.
    """

    def __init__(self, ratio: float = 0.2) -> None:
        if not 0 <= ratio < 1:
            raise UserError(f'VaryColour.ratio: expected 0 <= ratio < 1, found {ratio}')
        self.ratio = ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        factor = np.random.uniform(1 - self.ratio, 1 + self.ratio)
        features = results['features'].copy()
        features[:, CHANNELS] = np.minimum(features[:, CHANNELS] * np.float32(factor), 1)
        return {**results, 'features': features}
