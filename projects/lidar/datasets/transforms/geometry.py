"""Where points are, changed as another flight over another place might have changed it. Up stays up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from projects.engine.errors import UserError
from projects.lidar.features import HEIGHT_RANGE, INDEX

DENSITY_SCALE = 3.0  # the feature is log(1 + density) / 3 - 1
DENSITY_DIMENSIONS = 2  # points per square metre of surface
NORMAL = [INDEX['normal_x'], INDEX['normal_y']]


@TRANSFORMS.register_module()
class RotateAboutZ(BaseTransform):
    """Turn points and their normals about the vertical through the patch's centre.

    Args:
        degrees: Lowest and highest angle, counter-clockwise. Default: all round.
    """

    def __init__(self, degrees: Sequence[float] = (-180.0, 180.0)) -> None:
        self.degrees = _pair(degrees, 'RotateAboutZ.degrees')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        angle = np.deg2rad(np.random.uniform(*self.degrees))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)  # of rows
        points, features = results['points'].copy(), results['features'].copy()
        points[:, :2] = points[:, :2] @ turn
        features[:, NORMAL] = features[:, NORMAL] @ turn
        return {**results, 'points': points, 'features': features}


@TRANSFORMS.register_module()
class ScalePoints(BaseTransform):
    """Make everything larger or smaller by one factor: positions, heights, the size of the patch, densities.

    A height at an end of the feature's range stays there; what it was is not known any more.

    Args:
        limits: Lowest and highest. Default: 0.9 to 1.1.
    """

    def __init__(self, limits: Sequence[float] = (0.9, 1.1)) -> None:
        self.limits = _pair(limits, 'ScalePoints.limits')
        if self.limits[0] <= 0:
            raise UserError(f'ScalePoints.limits: expected numbers above 0, found {limits}')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        factor = np.random.uniform(*self.limits)
        features = results['features'].copy()
        height, density = features[:, INDEX['height']], features[:, INDEX['log_density']]
        low, high = HEIGHT_RANGE
        inside = (height > low) & (height < high)
        height[inside] = np.clip(height[inside] * factor, low, high)
        density[:] = np.log1p(np.expm1((density + 1) * DENSITY_SCALE) / factor**DENSITY_DIMENSIONS) / DENSITY_SCALE - 1
        return {**results, 'features': features, 'points': results['points'] * np.float32(factor),
                'building_area': results['building_area'] * np.float32(factor**2),
                'border': results['border'] * np.float32(factor),
                'patch_size': results['patch_size'] * factor, 'density': results['density'] / factor**2}


@TRANSFORMS.register_module()
class JitterPoints(BaseTransform):
    """Move each point by Gaussian noise in metres, as a scanner does; its features stay.

    Args:
        sigma: Standard deviation in metres. Default: 0.02.
        clip: Largest move along an axis in metres. Default: 0.05.
    """

    def __init__(self, sigma: float = 0.02, clip: float = 0.05) -> None:
        if sigma < 0 or clip < 0:
            raise UserError(f'JitterPoints: expected sigma and clip of at least 0, found {sigma} and {clip}')
        self.sigma, self.clip = sigma, clip

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        points = results['points']
        # float32 from the start: half the time of numpy's global normal(), whose float64 nobody needs here
        generator = np.random.default_rng(np.random.randint(2**31))
        noise = generator.standard_normal(points.shape, np.float32) * np.float32(self.sigma)
        return {**results, 'points': points + np.clip(noise, -self.clip, self.clip)}


def _pair(values: Sequence[float], where: str) -> tuple[float, float]:
    values = tuple(values)
    if len(values) != 2 or not values[0] <= values[1]:
        raise UserError(f'{where}: expected the lowest and the highest value, found {values}')
    return values
