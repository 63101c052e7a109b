"""Pair an image with its mask on the ground: refuse a pair that does not match, or resample the mask as asked."""

import math
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject

from projects.engine.errors import UserError
from projects.geo.raster import IGNORE, open_raster, read_errors

METHODS = {'nearest': Resampling.nearest, 'mode': Resampling.mode}
TOLERANCE = 0.01  # pixels; writers round coordinates, and a hundredth of a pixel moves no label


def check_pair(image: str | Path, mask: str | Path, tolerance: float = TOLERANCE) -> None:
    """Check that a mask GeoTIFF lies exactly on its image: the same CRS, grid and size.

    Where one of the two has no georeferencing at all (no CRS and no transform), only the sizes are compared.

    Args:
        image: path of the image.
        mask: path of the mask.
        tolerance: largest distance of corresponding corners, in pixels of the image.

    Raises:
        UserError: naming both files and every difference (CRS, offset in ground units and pixels, pixel size, size).
    """
    with open_raster(image) as a, open_raster(mask) as b:
        differences = _differences(a, b, tolerance)
    if differences:
        raise UserError(f'{mask}: does not lie on {image}: ' + '; '.join(differences))


def resample_to(mask: str | Path, image: str | Path, method: str = 'nearest') -> np.ndarray:
    """Resample a one-band mask GeoTIFF to the grid of an image.

    Args:
        mask: path of the mask, labels 0..255.
        image: path of the image that gives CRS, transform and size.
        method: `nearest`, or `mode` (the most frequent label; for a mask finer than the image).

    Returns:
        ``(H, W)`` uint8 on the image's grid, 255 (ignore) where the mask does not reach. The mask's nodata value is
        kept as it stands, like :func:`projects.geo.raster.read_mask` does.

    Raises:
        UserError: an unknown method, a mask of several bands or other values, or a file without georeferencing.
    """
    if method not in METHODS:
        raise UserError(f'method: expected one of {", ".join(METHODS)}, found {method!r}')
    with open_raster(image) as target, open_raster(mask) as source:
        for dataset in (target, source):
            if dataset.crs is None:
                raise UserError(f'{dataset.name}: expected a CRS to resample by, found none')
        if source.count != 1:
            raise UserError(f'{mask}: expected a mask of 1 band, found {source.count} bands')
        with read_errors(mask):
            labels = source.read(1)
        if labels.min() < 0 or labels.max() > 255 or labels.dtype.kind == 'f':
            raise UserError(f'{mask}: expected labels 0..255, found {labels.dtype} values '
                            f'{labels.min()}..{labels.max()}')
        # 16-bit with nodata -1: GDAL moves a label that equals the nodata value, so it may be none of 0..255.
        resampled = np.full((target.height, target.width), -1, dtype=np.int16)
        reproject(
            labels.astype(np.int16), resampled,
            src_transform=source.transform, src_crs=source.crs, src_nodata=-1,
            dst_transform=target.transform, dst_crs=target.crs, dst_nodata=-1,
            resampling=METHODS[method], tolerance=0,
        )
    resampled[resampled < 0] = IGNORE
    return resampled.astype(np.uint8)


def _differences(
    image: rasterio.DatasetReader, mask: rasterio.DatasetReader, tolerance: float
) -> list[str]:
    differences = []
    if _is_georeferenced(image) and _is_georeferenced(mask):
        if image.crs != mask.crs:
            differences.append(f'CRS {_name(mask)} instead of {_name(image)}')
        else:
            differences.extend(_grid_differences(image, mask, tolerance))
    if image.shape != mask.shape:
        differences.append(f'size {mask.width}x{mask.height} instead of {image.width}x{image.height} pixels')
    return differences


def _grid_differences(
    image: rasterio.DatasetReader, mask: rasterio.DatasetReader, tolerance: float
) -> list[str]:
    """Compare two grids in the image's pixels, at the corners of the image."""
    to_image = ~image.transform @ mask.transform
    differences = []
    corners = [(0, 0), (image.width, 0), (0, image.height), (image.width, image.height)]
    worst = max(math.dist(corner, to_image @ corner) for corner in corners)
    if worst <= tolerance:
        return differences
    sizes = [(math.hypot(t.a, t.d), math.hypot(t.b, t.e)) for t in (image.transform, mask.transform)]
    if not np.allclose(*sizes, rtol=tolerance / max(image.shape), atol=0):
        differences.append(f'pixel size {sizes[1][0]:.6g} x {sizes[1][1]:.6g} instead of '
                           f'{sizes[0][0]:.6g} x {sizes[0][1]:.6g}')
    x = mask.transform.c - image.transform.c
    y = mask.transform.f - image.transform.f
    if math.hypot(to_image.c, to_image.f) > tolerance:
        unit = image.crs.linear_units if image.crs and image.crs.is_projected else 'degrees' if image.crs else 'units'
        differences.append(f'upper-left corner off by x {x:+.6g}, y {y:+.6g} {unit} '
                           f'({to_image.c:+.3g}, {to_image.f:+.3g} pixels)')
    if not differences:
        differences.append(f'grid turned by up to {worst:.3g} pixels')
    return differences


def _is_georeferenced(dataset: rasterio.DatasetReader) -> bool:
    return dataset.crs is not None or dataset.transform != Affine.identity()


def _name(dataset: rasterio.DatasetReader) -> str:
    return dataset.crs.to_string()[:60] if dataset.crs else 'none'
