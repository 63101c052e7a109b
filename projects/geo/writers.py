"""The rasters that prediction writes, band of rows by band of rows."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from projects.geo.raster import IGNORE, write_mask
from projects.geo.sources import Source
from projects.geo.windows import Band

PROBABILITY_STEPS = 254  # a probability p is stored as round(254 p), so that 255 stays free for "no data"
OVERLAY_OPACITY = 0.5
TILE = 256


class Writer:
    """One output: a context in which bands are written, and a last step after it is closed.

    A GeoTIFF is written as the bands come; for a picture, ``self.array`` collects them.
    """

    resampling: Resampling
    dtype = 'uint8'

    def __init__(self, path: Path, source: Source, channels: int, as_picture: bool, **profile) -> None:
        self.path, self.source, self.as_picture = path, source, as_picture
        self._profile = profile
        self._channels = channels
        self._dataset = None

    def __enter__(self) -> None:
        source = self.source
        if self.as_picture:
            self.array = np.zeros((self._channels, source.height, source.width), dtype=np.uint8)
            return
        profile = dict(
            driver='GTiff', dtype=self.dtype, count=self._channels, height=source.height, width=source.width,
            crs=source.crs, transform=source.transform, tiled=True, blockxsize=TILE, blockysize=TILE,
            compress='deflate', bigtiff='if_safer', **self._profile,
        )
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            self._dataset = rasterio.open(self.path, 'w', **profile)
            if source.gcps is not None:
                self._dataset.gcps = source.gcps
        self.describe(self._dataset)

    def __exit__(self, *exception) -> None:
        if self._dataset is not None:
            self._dataset.close()

    def describe(self, dataset: rasterio.io.DatasetWriter) -> None:
        """Add what is not pixels."""

    def put(self, top: int, pixels: np.ndarray) -> None:
        """Write ``(channels, rows, width)`` of the writer's type."""
        rows = pixels.shape[1]
        if self._dataset is None:
            self.array[:, top:top + rows] = pixels
        else:
            self._dataset.write(pixels, window=Window(0, top, self.source.width, rows))

    def write(self, band: Band, indices: np.ndarray) -> None:
        """Write a band of blended scores and its ``(rows, width)`` class indices."""
        raise NotImplementedError

    def save_picture(self) -> None:
        """Write ``self.array`` as a picture."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write the picture, or add overviews down to one tile."""
        if self.as_picture:
            self.save_picture()
            return
        side = max(self.source.height, self.source.width)
        factors = [2**level for level in range(1, 32) if side > TILE * 2 ** (level - 1)]
        if factors:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', NotGeoreferencedWarning)
                dataset = rasterio.open(self.path, 'r+')
            with dataset:
                dataset.build_overviews(factors, self.resampling)


class ClassWriter(Writer):
    """The class of every pixel: palette GeoTIFF with class names in its tags and nodata 255, or palette PNG."""

    resampling = Resampling.mode

    def __init__(self, path: Path, source: Source, classes: Sequence[str], palette: Sequence[Sequence[int]],
                 tags: Mapping[str, str]) -> None:
        super().__init__(path, source, 1, source.is_picture, nodata=IGNORE)
        self._classes, self._palette, self._tags = classes, palette, tags

    def describe(self, dataset: rasterio.io.DatasetWriter) -> None:
        colours = {index: (*map(int, colour), 255) for index, colour in enumerate(self._palette)}
        dataset.write_colormap(1, colours | {IGNORE: (0, 0, 0, 0)})
        dataset.set_band_description(1, 'class')
        dataset.update_tags(**self._tags, **{f'CLASS_{index}': name for index, name in enumerate(self._classes)})

    def write(self, band: Band, indices: np.ndarray) -> None:
        self.put(band.top, indices[None])

    def save_picture(self) -> None:
        write_mask(self.path, self.array[0], self._palette)


class ProbabilityWriter(Writer):
    """One uint8 band per class: round(254 p), the scale 1 / 254 in the bands' metadata, 255 = no data."""

    resampling = Resampling.average

    def __init__(self, path: Path, source: Source, classes: Sequence[str]) -> None:
        super().__init__(path, source, len(classes), as_picture=False, nodata=IGNORE, interleave='band')
        self._classes = classes

    def describe(self, dataset: rasterio.io.DatasetWriter) -> None:
        dataset.scales = [1 / PROBABILITY_STEPS] * len(self._classes)
        for index, name in enumerate(self._classes, start=1):
            dataset.set_band_description(index, name)
        dataset.update_tags(SCALE=f'probability = value / {PROBABILITY_STEPS}, {IGNORE} = no data')

    def write(self, band: Band, indices: np.ndarray) -> None:
        pixels = np.empty(band.scores.shape, dtype=np.uint8)
        for scores, plane in zip(band.scores, pixels, strict=True):
            plane[:] = np.clip(np.rint(scores * PROBABILITY_STEPS), 0, PROBABILITY_STEPS)
        pixels[:, ~band.valid] = IGNORE
        self.put(band.top, pixels)


class UncertaintyWriter(Writer):
    """Two float32 bands, 0..1: entropy of the probabilities, and disagreement; not a number where no data are.

    Both are shares of log(classes). The entropy is that of the blended probabilities: 0 certain, 1 uniform. The
    disagreement is the band's first extra plane: the mutual information of the class and the network that was asked
    (of a single network: the view), 0 where all give the same probabilities.
    """

    resampling = Resampling.average
    dtype = 'float32'

    def __init__(self, path: Path, source: Source) -> None:
        super().__init__(path, source, 2, as_picture=False, nodata=np.nan, interleave='band', predictor=3)

    def describe(self, dataset: rasterio.io.DatasetWriter) -> None:
        for index, name in enumerate(('entropy', 'disagreement'), start=1):
            dataset.set_band_description(index, name)
        dataset.update_tags(UNIT='share of log(classes), 0..1, NaN = no data')

    def write(self, band: Band, indices: np.ndarray) -> None:
        pixels = np.zeros((2, *indices.shape), dtype=np.float32)
        for probability in band.scores:
            pixels[0] -= probability * np.log(np.maximum(probability, np.finfo(np.float32).tiny))
        pixels[0] /= np.log(max(2, len(band.scores)))
        pixels[1] = band.extra[0]
        np.clip(pixels, 0, 1, out=pixels)
        pixels[:, ~band.valid] = np.nan
        self.put(band.top, pixels)


RGBA = dict(photometric='rgb', alpha='yes', interleave='pixel', predictor=2)


class OverlayWriter(Writer):
    """The image under half-transparent class colours: RGBA GeoTIFF, no data transparent, or RGB PNG."""

    resampling = Resampling.average

    def __init__(self, path: Path, source: Source, palette: Sequence[Sequence[int]]) -> None:
        channels = 3 if source.is_picture else 4
        super().__init__(path, source, channels, source.is_picture,
                         **({} if source.is_picture else RGBA))
        self._colours = np.zeros((IGNORE + 1, 3), dtype=np.float32)
        self._colours[:len(palette)] = np.asarray(palette, dtype=np.float32)

    def describe(self, dataset: rasterio.io.DatasetWriter) -> None:
        dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)

    def write(self, band: Band, indices: np.ndarray) -> None:
        pixels = np.empty((self._channels, *indices.shape), dtype=np.uint8)
        for channel in range(3):
            shown = band.image[..., channel if band.image.shape[2] >= 3 else 0] * np.float32(1 - OVERLAY_OPACITY)
            shown += OVERLAY_OPACITY * self._colours[:, channel][indices]
            pixels[channel] = np.where(band.valid, np.rint(shown), 0)
        if self._channels == 4:
            pixels[3] = np.where(band.valid, 255, 0)
        self.put(band.top, pixels)

    def save_picture(self) -> None:
        Image.fromarray(np.ascontiguousarray(np.moveaxis(self.array, 0, -1))).save(self.path, format='PNG')
