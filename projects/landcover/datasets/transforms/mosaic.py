"""Four images in one."""

from collections.abc import Callable

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.landcover.datasets.transforms.arguments import check_share
from projects.landcover.datasets.transforms.geometry import pad_to, random_window


@TRANSFORMS.register_module()
class Mosaic(BaseTransform):
    """Replace an image by a mosaic of random crops of itself and of three other samples.

    The canvas keeps the image's size. It is divided at a point drawn uniformly from the middle half of each side; the
    image itself fills the part at the top left, the others follow at the top right, bottom left and bottom right.
    Samples smaller than their part are padded (image reflected, mask ignored).

    The other samples come from `draw()`, which `LandCoverDataset` provides through :meth:`bind`; they pass the
    transforms that stand before this one. Samples are drawn within one data set, also inside a ConcatDataset.

    Args:
        prob: Probability of a mosaic. Default: 0.25.
        ignore_index: Label of padding. Default: 255.
    """

    def __init__(self, prob: float = 0.25, ignore_index: int = 255) -> None:
        check_share('Mosaic', prob=prob)
        self.prob = prob
        self.ignore_index = ignore_index
        self.draw: Callable[[], dict] | None = None

    def bind(self, draw: Callable[[], dict]) -> None:
        """Set the function that returns the loaded results of a random sample."""
        self.draw = draw

    def transform(self, results: dict) -> dict:
        if np.random.random() >= self.prob:
            return results
        if self.draw is None:
            raise RuntimeError('Mosaic needs samples: use it in the pipeline of a LandCoverDataset, not inside another')
        height, width = results['gt_seg_map'].shape
        row = middle_half(height)
        column = middle_half(width)
        image = np.empty_like(results['img'])
        mask = np.empty_like(results['gt_seg_map'])
        for top, bottom in ((0, row), (row, height)):
            for left, right in ((0, column), (column, width)):
                sample = results if (top, left) == (0, 0) else self.draw()
                size = (bottom - top, right - left)
                part, labels = pad_to(sample['img'], sample['gt_seg_map'], size, self.ignore_index)
                window = random_window(labels.shape, size)
                image[top:bottom, left:right] = part[window]
                mask[top:bottom, left:right] = labels[window]
        results['img'] = image
        results['gt_seg_map'] = mask
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'


def middle_half(length: int) -> int:
    """Draw a whole number uniformly from [length / 4, 3 * length / 4], with at least 1 on either side if possible."""
    low = max(1, length // 4)
    return int(np.random.randint(low, max(low, length - low) + 1))
