"""A random part of an image, at a random scale."""

import math
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.roofline.datasets.affine import scaling
from projects.roofline.datasets.transforms.arguments import check_count, check_range, check_size
from projects.roofline.datasets.transforms.moving import scaled, set_moved, window

TRIES = 10


@TRANSFORMS.register_module()
class RandomRoofCrop(BaseTransform):
    """Scale image and graph by a random factor and cut out a window of one size; lines are cut off at its borders.

    An image that is smaller than the window lies somewhere within it, on one colour. Where images differ in size and a
    network sees each as a whole (`LetterboxRoof(256)` when it is tested), put `LetterboxRoof(384)` in front and scale
    by 0.5..0.89, which is 0.75..1.33 of the size in the test without enlarging.

    Args:
        size: A side or (height, width), px.
        scale: (low, high) of the factor, drawn evenly on a logarithmic scale. Default: (0.75, 1.33).
        min_lines: Windows are drawn anew, up to ten times, until one shows so many lines. Default: 1.
    """

    def __init__(self, size: int | Sequence[int], scale: Sequence[float] = (0.75, 1.33), min_lines: int = 1) -> None:
        self.size = check_size('RandomRoofCrop', size)
        self.scale = check_range('RandomRoofCrop', 'scale', scale, 0.01, 100)
        check_count('RandomRoofCrop', lowest=0, min_lines=min_lines)
        self.min_lines = min_lines

    def transform(self, results: dict) -> dict:
        factor = float(np.exp(np.random.uniform(*(math.log(end) for end in self.scale))))
        image, graph = scaled(results['img'], factor), results.get('graph')
        for _ in range(TRIES):
            top, left = (_start(whole, part) for whole, part in zip(image.shape[:2], self.size, strict=True))
            matrix = scaling(factor, -left, -top)
            if graph is None or graph.empty or len(graph.moved(matrix).clipped(self.size).lines) >= self.min_lines:
                break
        return set_moved(results, window(image, left, top, self.size), matrix)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, scale={self.scale}, min_lines={self.min_lines})'


def _start(whole: int, part: int) -> int:
    """Return where a part starts at random within a whole, or before it where the part is the longer one."""
    return int(np.random.randint(whole - part + 1)) if whole >= part else -int(np.random.randint(part - whole + 1))
