"""Transforms that move pixels; a mask that is loaded already goes with its image.

A mask is resampled as the image is (linearly) and cut at one half: nearest-neighbour sampling, which mmseg's
transforms use, moves it by up to half a pixel against the image, and leaves stairs along every outline.
"""

from collections.abc import Callable, Sequence
from numbers import Integral, Real

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError


@TRANSFORMS.register_module()
class ResizeImage(BaseTransform):
    """Resize to one size, whatever the aspect ratio; a side that shrinks is averaged, one that grows interpolated.

    Sets `img_shape` (H, W), `scale_factor` (width, height) and `keep_ratio`; `ori_shape` stays.

    Args:
        size: (height, width), px.
    """

    def __init__(self, size: Sequence[int]) -> None:
        if isinstance(size, str) or not isinstance(size, Sequence) or len(size) != 2 or not all(
                isinstance(side, Integral) and not isinstance(side, bool) and side >= 1 for side in size):
            raise UserError(f'ResizeImage: size: expected (height, width) in px, from 1 on, found {size!r}')
        self.size = tuple(size)

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        results['img'] = resized(results['img'], self.size)
        if 'gt_seg_map' in results:
            results['gt_seg_map'] = _as_binary(results['gt_seg_map'], lambda mask: resized(mask, self.size))
        results['img_shape'] = self.size
        results['scale_factor'] = (self.size[1] / width, self.size[0] / height)
        results['keep_ratio'] = False
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'


@TRANSFORMS.register_module()
class RandomRotation(BaseTransform):
    """Turn image and mask about the middle by a random angle; the size stays, the border is continued outwards.

    The border's pixels are repeated in image and mask alike (ZoomNeXt's recipe), so that no black wedge appears which
    a network could take for background.

    Args:
        limit: The angle is drawn uniformly from -limit to limit, degrees. Default: 90.
        prob: Probability of a turn. Default: 0.5.
    """

    def __init__(self, limit: float = 90, prob: float = 0.5) -> None:
        for name, value, highest in (('limit', limit, 180), ('prob', prob, 1)):
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= highest:
                raise UserError(f'RandomRotation: {name}: expected a number in 0..{highest}, found {value!r}')
        self.limit, self.prob = limit, prob

    def transform(self, results: dict) -> dict:
        if np.random.random() >= self.prob:
            return results
        angle = np.random.uniform(-self.limit, self.limit)
        height, width = results['img'].shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)

        def turn(array: np.ndarray) -> np.ndarray:
            return cv2.warpAffine(array, matrix, (width, height), flags=cv2.INTER_LINEAR,
                                  borderMode=cv2.BORDER_REPLICATE)

        results['img'] = turn(results['img'])
        if 'gt_seg_map' in results:
            results['gt_seg_map'] = _as_binary(results['gt_seg_map'], turn)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(limit={self.limit}, prob={self.prob})'


def resized(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) or (H, W, C) uint8 to `size` (height, width): first the sides that shrink, then those that grow."""
    height, width = array.shape[:2]
    less = (min(height, size[0]), min(width, size[1]))
    if less != (height, width):
        array = cv2.resize(array, less[::-1], interpolation=cv2.INTER_AREA)
    if less != tuple(size):
        array = cv2.resize(array, tuple(size)[::-1], interpolation=cv2.INTER_LINEAR)
    return array


def _as_binary(mask: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a resampling to a mask of 0 and 1 and cut it at one half."""
    return (change(mask * np.uint8(255)) > 127).astype(np.uint8)
