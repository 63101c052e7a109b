"""Flips, quarter turns and rotations of image and graph."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError
from projects.roofline.datasets.affine import (
    horizontal_flip,
    on_pixel_centres,
    quarter_turns,
    rotation,
    vertical_flip,
)
from projects.roofline.datasets.transforms.arguments import check_range, check_share
from projects.roofline.datasets.transforms.moving import FILL, set_moved

DIRECTIONS = ('horizontal', 'vertical')
TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}  # numpy.rot90 is slower


@TRANSFORMS.register_module()
class RandomRoofFlip(BaseTransform):
    """Mirror image and graph, in each direction by its own draw: x -> width - x, y -> height - y.

    Args:
        prob: Probability of each flip. Default: 0.5.
        directions: Default: ('horizontal', 'vertical').
    """

    def __init__(self, prob: float = 0.5, directions: Sequence[str] = DIRECTIONS) -> None:
        check_share('RandomRoofFlip', prob=prob)
        if isinstance(directions, str) or not set(directions) <= set(DIRECTIONS):
            raise UserError(f'RandomRoofFlip: directions: expected some of {", ".join(DIRECTIONS)}, found '
                            f'{directions!r}')
        self.prob, self.directions = prob, tuple(directions)

    def transform(self, results: dict) -> dict:
        for direction in self.directions:
            if np.random.random() < self.prob:
                image = results['img']
                matrix = (horizontal_flip(image.shape[1]) if direction == 'horizontal' else
                          vertical_flip(image.shape[0]))
                set_moved(results, cv2.flip(image, int(direction == 'horizontal')), matrix, clip=False)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, directions={self.directions})'


@TRANSFORMS.register_module()
class RandomQuarterTurn(BaseTransform):
    """Turn image and graph by 90, 180 or 270 degrees, each as likely as the others; height and width may change places.

    Args:
        prob: Probability of a turn. Default: 0.75, by which all four positions are equally likely.
    """

    def __init__(self, prob: float = 0.75) -> None:
        check_share('RandomQuarterTurn', prob=prob)
        self.prob = prob

    def transform(self, results: dict) -> dict:
        if np.random.random() >= self.prob:
            return results
        turns, image = int(np.random.randint(1, 4)), results['img']
        return set_moved(results, cv2.rotate(image, TURNS[turns]), quarter_turns(turns, image.shape[:2]), clip=False)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'


@TRANSFORMS.register_module()
class RandomRoofRotation(BaseTransform):
    """Turn image and graph about the image's middle by any angle; the size stays, lines are cut off at the borders.

    The empty corners get one colour: a reflected border would show roofs that no line belongs to.

    Args:
        limit: The angle is drawn uniformly from -limit to limit, degrees, 0..180. Default: 15.
        prob: Probability of a turn. Default: 0.5.
    """

    def __init__(self, limit: float = 15.0, prob: float = 0.5) -> None:
        check_range('RandomRoofRotation', 'limit', (0, limit), 0, 180)
        check_share('RandomRoofRotation', prob=prob)
        self.limit, self.prob = limit, prob

    def transform(self, results: dict) -> dict:
        if np.random.random() >= self.prob:
            return results
        height, width = results['img'].shape[:2]
        matrix = rotation(np.random.uniform(-self.limit, self.limit), (width / 2, height / 2))
        image = cv2.warpAffine(results['img'], on_pixel_centres(matrix), (width, height), flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_CONSTANT, borderValue=FILL)
        return set_moved(results, image, matrix)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(limit={self.limit}, prob={self.prob})'
