"""What is known about one image after it was read: size, place on the ground, labels, and how it looks."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from projects.engine.errors import UserError
from projects.geo.raster import is_raster, open_raster, read_image
from projects.landcover.data.labels import read_labels
from projects.landcover.data.layouts import Sample
from projects.landcover.taxonomy import LabelReader

THUMBNAIL = 32  # px a side


@dataclass(frozen=True)
class Patch:
    """One image of a prepared data set: a whole file, or a window of it.

    Args:
        id: Name unique within the data set.
        sample: The pair of files it comes from.
        window: (left, top, width, height) within the image file, px, or None for the whole file.
        width, height: Size, px.
        bands: Number of bands of the file.
        dtype: Type of its values.
        crs: CRS as "EPSG:…" or WKT, or None.
        corners: Four (x, y) corners in that CRS, or None where the file is not georeferenced.
        pixels: Number of pixels of each target class; ignored pixels are not among them.
        thumbnail: (32, 32) float32 grey picture.
        split: Where it went.
        resampled: Whether its mask was resampled to the image's grid.
        nodata_pixels: Pixels ignored because the image or the label file holds no data there.
    """

    id: str
    sample: Sample
    window: tuple[int, int, int, int] | None
    width: int
    height: int
    bands: int
    dtype: str
    crs: str | None
    corners: tuple[tuple[float, float], ...] | None
    pixels: tuple[int, ...]
    thumbnail: np.ndarray = field(repr=False, compare=False)
    split: str | None = None
    resampled: bool = False
    nodata_pixels: int = 0

    @property
    def bounds(self) -> list[float] | None:
        """[left, bottom, right, top] in the CRS, or None."""
        if self.corners is None:
            return None
        xs, ys = zip(*self.corners)
        return [min(xs), min(ys), max(xs), max(ys)]

    @property
    def pixel_size(self) -> float:
        """Smaller side of a pixel in units of the CRS."""
        (x0, y0), (x1, y1), _, (x3, y3) = self.corners
        return min(np.hypot(x1 - x0, y1 - y0) / self.width, np.hypot(x3 - x0, y3 - y0) / self.height)

    @cached_property
    def hash(self) -> int | None:
        """Perceptual hash of the thumbnail (64 bits), or None where the picture is flat."""
        return perceptual_hash(self.thumbnail)

    def put(self, split: str) -> 'Patch':
        """Return the patch as a member of a split."""
        return replace(self, split=split)


def examine(
    sample: Sample,
    labels: LabelReader,
    tile: int | None = None,
    align: str = 'refuse',
    bands: tuple[int, ...] = (),
    look_at_image: bool = True,
) -> list[Patch]:
    """Read a pair of image and mask whole and describe it.

    Args:
        sample: The pair; it must have a mask.
        labels: Reader of its labels.
        tile: Largest side, px; a larger image is described as several patches.
        align: 'refuse' a georeferenced mask that does not lie on its image's grid, or 'resample' it.
        bands: Bands that the image must have, from 1.
        look_at_image: Whether labels are ignored where the image holds no data.

    Raises:
        UserError: the files are damaged, do not fit each other, or hold labels outside the taxonomy.
    """
    with open_raster(sample.image) as header:
        shape, count, dtype = header.shape, header.count, header.dtypes[0]
        crs, transform = header.crs, header.transform
    lacking = [band for band in bands if not 1 <= band <= count]
    if lacking:
        raise UserError(f'{sample.image}: expected bands {tuple(bands)}, found {count} bands')
    found = read_labels(sample.image, sample.mask, labels, align, bands, look_at_image)
    mask = found.mask
    if mask.shape != shape:
        raise UserError(
            f'{sample.mask}: mask of {mask.shape[1]}x{mask.shape[0]} px for an image of {shape[1]}x{shape[0]} px '
            f'({sample.image})'
        )
    classes = len(labels.target.classes)
    windows = tile_windows(shape[1], shape[0], tile)
    patches = []
    for window, thumbnail in zip(windows, thumbnails(sample.image, windows, count, dtype)):
        left, top, width, height = window
        place = slice(top, top + height), slice(left, left + width)
        part = mask[place]
        patches.append(
            Patch(
                id=sample.id if len(windows) == 1 else f'{sample.id}_y{top}_x{left}',
                sample=sample,
                window=None if len(windows) == 1 else window,
                width=width,
                height=height,
                bands=count,
                dtype=dtype,
                crs=None if crs is None else crs.to_string(),
                corners=corners_of(transform, window) if crs or transform != Affine.identity() else None,
                pixels=tuple(int(n) for n in np.bincount(part.ravel(), minlength=256)[:classes]),
                thumbnail=thumbnail,
                resampled=found.resampled,
                nodata_pixels=0 if found.nodata is None else int(np.count_nonzero(found.nodata[place])),
            )
        )
    return patches


def tile_windows(width: int, height: int, tile: int | None) -> list[tuple[int, int, int, int]]:
    """Cut (width, height) evenly into windows (left, top, width, height) of at most `tile` px, without overlap."""

    def cuts(length: int) -> list[int]:
        count = 1 if tile is None else -(-length // tile)
        return [length * i // count for i in range(count + 1)]

    xs, ys = cuts(width), cuts(height)
    return [(x0, y0, x1 - x0, y1 - y0) for y0, y1 in zip(ys, ys[1:]) for x0, x1 in zip(xs, xs[1:])]


def corners_of(transform: Affine, window: tuple[int, int, int, int]) -> tuple[tuple[float, float], ...]:
    """Return the four corners of a window on the ground, in the order of going round it."""
    left, top, width, height = window
    pixels = ((left, top), (left + width, top), (left + width, top + height), (left, top + height))
    return tuple((float(x), float(y)) for x, y in (transform @ pixel for pixel in pixels))


def thumbnails(
    path: Path,
    windows: list[tuple[int, int, int, int]],
    count: int,
    dtype: str,
) -> list[np.ndarray]:
    """Return a (32, 32) float32 grey picture of each window of an image, in the file's own values.

    Every band is read for it, so damage anywhere is found; a GeoTIFF is read window by window.

    Raises:
        UserError: damaged file.
    """
    if is_raster(path):
        with open_raster(path) as dataset:
            return [thumbnail(np.moveaxis(dataset.read(window=Window(*window)), 0, -1)) for window in windows]
    image = read_picture(path, count, dtype)
    return [thumbnail(image[top : top + height, left : left + width]) for left, top, width, height in windows]


def read_picture(path: Path, count: int, dtype: str) -> np.ndarray:
    """Read up to three bands of a PNG or JPEG of any depth as (H, W, C); the scale of deeper values is not kept."""
    bands = tuple(range(1, min(3, count) + 1))
    return read_image(path, bands, None if dtype == 'uint8' else (0, np.iinfo(dtype).max))


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrink (H, W, C) to (32, 32) float32 grey, each pixel the mean of what it covers."""
    grey = np.nan_to_num(image[..., :3].mean(axis=2, dtype=np.float32))
    return cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def is_flat(picture: np.ndarray) -> bool:
    """Say whether a grey picture shows nothing: one part in fifty of contrast, or less."""
    return float(picture.std()) <= 0.02 * (abs(float(picture.mean())) + 1e-6)


def perceptual_hash(picture: np.ndarray) -> int | None:
    """Return 64 bits that survive re-encoding, a change of brightness and a slight change of size.

    The 64 lowest frequencies of the cosine transform of the (32, 32) picture without the mean, each as one bit: above
    or below their median ("pHash"; https://www.phash.org describes the idea).

    Returns:
        The hash, or None where the picture is flat: of water, or of nothing, all hashes look alike.
    """
    if is_flat(picture):
        return None
    frequencies = cv2.dct(np.ascontiguousarray(picture, np.float32))[:9, :9].ravel()[1:65]
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes(), 'big')


Orientation = Callable[[np.ndarray], np.ndarray]
ORIENTATIONS: dict[str, Orientation] = {
    'as it is': lambda a: a,
    'turned by 90°': lambda a: np.rot90(a, 1),
    'turned by 180°': lambda a: np.rot90(a, 2),
    'turned by 270°': lambda a: np.rot90(a, 3),
    'mirrored': lambda a: a[:, ::-1],
    'mirrored and turned by 90°': lambda a: np.rot90(a[:, ::-1], 1),
    'mirrored and turned by 180°': lambda a: a[::-1],
    'mirrored and turned by 270°': lambda a: np.rot90(a[:, ::-1], 3),
}


def crs_of(text: str) -> rasterio.crs.CRS:
    """Parse a CRS as a manifest holds it.

    Raises:
        UserError: it is none.
    """
    try:
        return rasterio.crs.CRS.from_user_input(text)
    except rasterio.errors.CRSError as error:
        raise UserError(f'not a CRS: {text!r}') from error
