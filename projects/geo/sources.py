"""Images as prediction reads them: in bands of rows, with their valid pixels and their place on the ground."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from projects.geo.raster import (
    check_readable_as,
    is_raster,
    open_raster,
    read_errors,
    read_picture,
    read_valid_mask,
    scale_values,
    select_bands,
)
from projects.geo.vectors import equal_area


class RasterSource:
    """An open GeoTIFF, read in bands of rows.

    Args:
        dataset: the open raster.
        path: its path, for messages.
        bands, value_range: see :func:`projects.geo.raster.read_image`.

    Raises:
        UserError: a band does not exist, or the values need a `value_range`.
    """

    is_picture = False

    def __init__(self, dataset: rasterio.DatasetReader, path: Path, bands: Sequence[int],
                 value_range: tuple[float, float] | None) -> None:
        check_readable_as(dataset, bands, value_range)
        self.dataset, self.path, self.bands, self.value_range = dataset, path, list(bands), value_range
        self.height, self.width = dataset.shape
        self.crs, self.transform = dataset.crs, dataset.transform
        self.gcps = dataset.gcps if dataset.gcps[0] else None

    def read_band(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(rows, width, C)``, 0..255, and ``(rows, width)`` bool: the image from row ``top``, where valid."""
        window = Window(0, top, self.width, rows)
        with read_errors(self.path):
            values = self.dataset.read(self.bands, window=window)
            valid = read_valid_mask(self.dataset, window, self.bands, values)
        return scale_values(np.moveaxis(values, 0, -1), self.value_range), valid

    def warnings(self) -> Iterator[str]:
        """Yield what the user should know about the georeferencing."""
        if self.crs is None and self.gcps is None:
            yield f'{self.path}: no CRS: the outputs have none either, and areas are in pixels only'
        elif self.crs is None:
            yield f'{self.path}: placed by ground control points: areas are in pixels only'
        elif equal_area(self.crs) is None:
            yield f'{self.path}: neither a projected nor a geographic CRS: areas are in pixels only'


class PictureSource:
    """A PNG, JPEG, BMP or WebP file, held in memory; arguments as for :class:`RasterSource`."""

    is_picture = True
    crs = gcps = None
    transform = Affine.identity()

    def __init__(self, path: Path, bands: Sequence[int], value_range: tuple[float, float] | None) -> None:
        picture = read_picture(path)
        self.path = path
        self.height, self.width, channels = picture.shape
        self.image = scale_values(select_bands(path, picture, bands, value_range), value_range)
        self.valid = np.ones(picture.shape[:2], dtype=bool)
        if channels in (2, 4) and channels not in bands:
            self.valid = picture[..., -1] > 0

    def read_band(self, top: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`RasterSource.read_band`."""
        return self.image[top:top + rows], self.valid[top:top + rows]

    def warnings(self) -> Iterator[str]:
        """Yield nothing: a picture is not expected to be georeferenced."""
        return iter(())


Source = RasterSource | PictureSource


@contextmanager
def open_source(path: Path, bands: Sequence[int], value_range: tuple[float, float] | None) -> Iterator[Source]:
    """Open an image for prediction, as the one or the other by its suffix."""
    if not is_raster(path):
        yield PictureSource(path, bands, value_range)
        return
    with open_raster(path) as dataset:
        yield RasterSource(dataset, path, bands, value_range)
