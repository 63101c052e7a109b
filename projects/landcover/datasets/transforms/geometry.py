"""Transforms that move pixels: scale, crop, flip. Image and mask always go together."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError
from projects.landcover.datasets.transforms.arguments import check_count, check_share, check_size


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Resize image and mask by a factor drawn from a list.

    Args:
        scales: The factors; each is as likely as the others. Default: (0.75, 1.0, 1.25, 1.5).
    """

    def __init__(self, scales: Sequence[float] = (0.75, 1.0, 1.25, 1.5)) -> None:
        if not isinstance(scales, Sequence) or not scales or not all(0 < scale < math.inf for scale in scales):
            raise UserError(f'RandomScale: scales: expected factors above 0, found {scales!r}')
        self.scales = tuple(scales)

    def transform(self, results: dict) -> dict:
        scale = self.scales[np.random.randint(len(self.scales))]
        results['scale_factor'] = (scale, scale)
        if scale == 1:
            return results
        height, width = results['img'].shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        results['img'] = with_channels(cv2.resize(results['img'], size, interpolation=cv2.INTER_LINEAR))
        # INTER_NEAREST is shifted by up to half a pixel against INTER_LINEAR; the exact variant is not.
        results['gt_seg_map'] = cv2.resize(results['gt_seg_map'], size, interpolation=cv2.INTER_NEAREST_EXACT)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scales={self.scales})'


@TRANSFORMS.register_module()
class SmartCrop(BaseTransform):
    """Crop at random, again and again until the crop shows more than one class and none covers nearly all.

    A crop is taken when its valid pixels hold more than one class and the largest share is below `max_share`. After
    `tries` draws the last one is taken as it is. An image smaller than the crop is padded on the right and below,
    the image by reflection, the mask with `ignore_index`, which counts neither as a class nor for the shares.

    Args:
        size: (height, width), or one number for both, px.
        tries: Draws at most. Default: 10.
        max_share: Share of valid pixels that no class may reach. Default: 0.75.
        ignore_index: Default: 255.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        tries: int = 10,
        max_share: float = 0.75,
        ignore_index: int = 255,
    ) -> None:
        self.size = check_size('SmartCrop', size)
        check_count('SmartCrop', tries=tries)
        check_share('SmartCrop', max_share=max_share)
        self.tries = tries
        self.max_share = max_share
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        image, mask = pad_to(results['img'], results['gt_seg_map'], self.size, self.ignore_index)
        for _ in range(self.tries):
            window = random_window(mask.shape, self.size)
            if self.is_mixed(mask[window]):
                break
        results['img'] = np.ascontiguousarray(image[window])
        results['gt_seg_map'] = np.ascontiguousarray(mask[window])
        results['img_shape'] = self.size
        return results

    def is_mixed(self, mask: np.ndarray) -> bool:
        """Say whether a mask (H, W) uint8 holds several classes, none of them with `max_share` or more."""
        counts = cv2.calcHist([np.ascontiguousarray(mask)], [0], None, [256], [0, 256]).ravel()
        counts[self.ignore_index] = 0
        return np.count_nonzero(counts) > 1 and counts.max() < self.max_share * counts.sum(dtype=np.float64)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, tries={self.tries}, max_share={self.max_share})'


@TRANSFORMS.register_module()
class RandomFlips(BaseTransform):
    """Mirror left-right and top-bottom, each with its own probability.

    Sets `flip` (bool) and `flip_direction` ('horizontal', 'vertical', 'diagonal' for both, or None) as mmseg does.

    Args:
        horizontal: Probability of the left-right flip. Default: 0.5.
        vertical: Probability of the top-bottom flip. Default: 0.5.
    """

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.5) -> None:
        check_share('RandomFlips', horizontal=horizontal, vertical=vertical)
        self.horizontal = horizontal
        self.vertical = vertical

    def transform(self, results: dict) -> dict:
        horizontal, vertical = np.random.random(2) < (self.horizontal, self.vertical)
        results['flip'] = bool(horizontal or vertical)
        results['flip_direction'] = (
            'diagonal' if horizontal and vertical else 'horizontal' if horizontal else 'vertical' if vertical else None
        )
        if results['flip']:
            code = -1 if horizontal and vertical else int(horizontal)
            results['img'] = with_channels(cv2.flip(results['img'], code))
            results['gt_seg_map'] = cv2.flip(results['gt_seg_map'], code)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(horizontal={self.horizontal}, vertical={self.vertical})'


def random_window(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice]:
    """Return a window of `size` (height, width) at a random place within (H, W), as slices."""
    top = np.random.randint(shape[0] - size[0] + 1)
    left = np.random.randint(shape[1] - size[1] + 1)
    return slice(top, top + size[0]), slice(left, left + size[1])


def pad_to(
    image: np.ndarray,
    mask: np.ndarray,
    size: tuple[int, int],
    ignore_index: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Pad image (H, W, C) and mask (H, W) on the right and below to at least `size` (height, width).

    The image is reflected, so that no edge appears that a network could learn; the mask is ignored there.
    """
    below, right = max(0, size[0] - mask.shape[0]), max(0, size[1] - mask.shape[1])
    if below or right:
        image = with_channels(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT_101))
        mask = cv2.copyMakeBorder(mask, 0, below, 0, right, cv2.BORDER_CONSTANT, value=ignore_index)
    return image, mask


def with_channels(image: np.ndarray) -> np.ndarray:
    """Give an image back the channel axis that OpenCV drops when there is one channel."""
    return image[..., None] if image.ndim == 2 else image
