"""Transforms that change values, not places."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.landcover.datasets.transforms.arguments import check_share


@TRANSFORMS.register_module()
class BrightnessContrast(BaseTransform):
    """Change brightness and contrast of all bands together: `img * (1 + c) + 255 * b`, clipped to 0..255.

    Args:
        limit: c and b are drawn uniformly from [-limit, limit]. Default: 0.25.
        prob: Probability of a change. Default: 0.25.
    """

    def __init__(self, limit: float = 0.25, prob: float = 0.25) -> None:
        check_share('BrightnessContrast', limit=limit, prob=prob)
        self.limit = limit
        self.prob = prob

    def transform(self, results: dict) -> dict:
        if np.random.random() >= self.prob:
            return results
        contrast, brightness = np.random.uniform(-self.limit, self.limit, 2)
        image = results['img']
        if image.dtype == np.uint8:  # 256 values: a look-up is four times as fast as the arithmetic
            table = np.arange(256) * (1 + contrast) + 255 * brightness
            results['img'] = np.clip(np.rint(table), 0, 255).astype(np.uint8)[image]
        else:
            results['img'] = np.clip(image * np.float32(1 + contrast) + np.float32(255 * brightness), 0, 255)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(limit={self.limit}, prob={self.prob})'
