"""Which points of a patch stay. Their order stays too: every encoder level is a prefix of it."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError

POINT_KEYS = ('points', 'features', 'labels', 'building_area', 'border', 'rows')


def take(results: dict[str, Any], chosen: np.ndarray | slice) -> dict[str, Any]:
    """Return an item with the chosen rows of everything that belongs to single points."""
    return {**results, **{key: results[key][chosen] for key in POINT_KEYS if key in results}}


@TRANSFORMS.register_module()
class SamplePoints(BaseTransform):
    """Keep ``count`` points at most; fewer are padded when the batch is made (`collate_points`).

    Args:
        count: How many.
        mode: 'fps' (default) keeps the head of the farthest-point order, 'random' any points.
    """

    def __init__(self, count: int, mode: str = 'fps') -> None:
        if count < 1 or mode not in ('fps', 'random'):
            raise UserError(f'SamplePoints: expected a count of at least 1 and a mode fps or random, found {count} and '
                            f'{mode!r}')
        self.count, self.mode = count, mode

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        number = len(results['points'])
        if number <= self.count:
            return results
        if self.mode == 'fps':
            return take(results, slice(self.count))
        return take(results, np.sort(np.random.choice(number, self.count, replace=False)))


@TRANSFORMS.register_module()
class DropPoints(BaseTransform):
    """Leave out a random share of the points, as rain, dark roofs and thin strips do.

    Args:
        prob: How often. Default: 0.5.
        ratio: Largest share of points that are left out, below 1; each time a share up to that is drawn. Default: 0.2.
    """

    def __init__(self, prob: float = 0.5, ratio: float = 0.2) -> None:
        if not 0 <= prob <= 1 or not 0 <= ratio < 1:
            raise UserError(f'DropPoints: expected 0 <= prob <= 1 and 0 <= ratio < 1, found {prob} and {ratio}')
        self.prob, self.ratio = prob, ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if np.random.rand() >= self.prob:
            return results
        share = np.random.uniform(0, self.ratio)
        kept = np.random.rand(len(results['points'])) >= share
        kept[0] |= not kept.any()
        return take(results, np.flatnonzero(kept))
