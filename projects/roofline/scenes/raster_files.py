"""Pictures of made villages on disk: PNG, or GeoTIFF with its place on the ground."""

from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from projects.engine.files import atomic_path, write_bytes
from projects.scenes.files import CRS


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG."""
    ok, data = cv2.imencode('.png', image[..., ::-1])
    if not ok:
        raise OSError(f'{path}: could not be encoded as PNG')
    write_bytes(path, data.tobytes())


def write_geotiff(path: str | Path, image: np.ndarray, transform: tuple[float, ...]) -> None:
    """Write (H, W, 3) uint8 RGB as GeoTIFF in EPSG:2154, ``transform`` as :class:`Annotation` has it."""
    tiled = dict(tiled=True, blockxsize=256, blockysize=256) if min(image.shape[:2]) >= 256 else {}
    profile = dict(driver='GTiff', dtype='uint8', height=image.shape[0], width=image.shape[1], count=3, crs=CRS,
                   transform=rasterio.Affine(*transform), compress='deflate', zlevel=1, predictor=2,
                   photometric='RGB', **tiled)
    with atomic_path(path) as temporary, rasterio.open(temporary, 'w', **profile) as dataset:
        dataset.write(np.moveaxis(image, 2, 0))
        dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def place_of(origin: tuple[int, int], bounds: tuple[float, float, float, float],
             resolution: float) -> tuple[float, ...]:
    """The transform (a, b, c, d, e, f) from pixels to EPSG:2154 of a view over ``bounds`` (scene metres)."""
    return resolution, 0.0, origin[0] + bounds[0], 0.0, -resolution, origin[1] + bounds[3]
