"""Read images and index masks from PNG, JPEG and GeoTIFF: bands, value scaling, validity, damaged files."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from projects.engine.errors import UserError
from projects.engine.files import atomic_path

RASTER_SUFFIXES = ('.tif', '.tiff', '.vrt')
PICTURE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
IMAGE_SUFFIXES = RASTER_SUFFIXES + PICTURE_SUFFIXES
IGNORE = 255


def is_raster(path: str | Path) -> bool:
    """Say whether ``path`` is read through GDAL (GeoTIFF, VRT) rather than as a picture, judged by its suffix."""
    return Path(path).suffix.lower() in RASTER_SUFFIXES


@contextmanager
def open_raster(path: str | Path) -> Iterator[rasterio.DatasetReader]:
    """Open a GeoTIFF for reading; a file that is missing or no raster is a :class:`UserError`.

    A raster without georeferencing opens silently. A truncated file often opens, and fails at its first missing
    block: wrap the reading in :func:`read_errors`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            dataset = rasterio.open(path)
    except (RasterioError, UnicodeDecodeError) as error:  # GDAL quotes damaged bytes
        raise UserError(f'{path}: not a readable raster ({_first_line(error)})') from error
    with dataset:
        yield dataset


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn GDAL's failure to read inside the block into a :class:`UserError` that names the file."""
    try:
        yield
    except RasterioError as error:
        raise UserError(f'{path}: damaged or truncated raster ({_cause(error)})') from error


def read_image(
    path: str | Path,
    bands: Sequence[int] = (1, 2, 3),
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Read an image as ``(H, W, C)`` in the order of ``bands``, uint8 or float32, values 0..255.

    Args:
        path: PNG, JPEG, BMP, WebP (channels in RGB order, then alpha) or GeoTIFF.
        bands: 1-based band numbers, one per output channel; a band may repeat (``(1, 1, 1)`` for a grey image).
        value_range: ``(low, high)`` of the file's values, mapped linearly to 0..255 and clipped. The result is then
            float32. Without it the file must be 8-bit, and its values are returned as they are.

    Raises:
        UserError: the file is missing, truncated or no image, a band does not exist, or the values have more than
            8 bits and ``value_range`` is not set.
    """
    path = Path(path)
    check_bands(bands)
    if is_raster(path):
        with open_raster(path) as dataset, read_errors(path):
            check_readable_as(dataset, bands, value_range)
            image = np.moveaxis(dataset.read(list(bands)), 0, -1)
    else:
        image = select_bands(path, read_picture(path), bands, value_range)
    return scale_values(image, value_range)


def read_picture(path: str | Path) -> np.ndarray:
    """Read PNG, JPEG, BMP or WebP as ``(H, W, C)``: grey, grey + alpha, RGB or RGB + alpha, uint8 or uint16.

    Pillow decodes, since OpenCV returns the readable part of a truncated file without a word; but Pillow cuts
    16-bit colour down to 8, so that case is left to OpenCV after Pillow has found the file whole. The
    EXIF orientation is not applied, since a mask would not be turned with its image.

    Raises:
        UserError: the file is missing, truncated or no image.
    """
    path = Path(path)
    picture = _open_picture(path)
    if _png_bit_depth(path) == 16:
        array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if array is None:
            raise UserError(f'{path}: not a readable image')
        if array.ndim == 3:
            array = cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA if array.shape[2] == 4 else cv2.COLOR_BGR2RGB)
        return np.atleast_3d(array)
    if picture.mode == 'P':
        picture = picture.convert('RGBA' if 'transparency' in picture.info else 'RGB')
    elif picture.mode == '1':
        picture = picture.convert('L')
    elif picture.mode not in ('L', 'LA', 'RGB', 'RGBA'):
        picture = picture.convert('RGB')
    return np.atleast_3d(np.asarray(picture))


def select_bands(
    path: str | Path, picture: np.ndarray, bands: Sequence[int], value_range: tuple[float, float] | None
) -> np.ndarray:
    """Return the 1-based ``bands`` of a picture ``(H, W, C)``; errors as in :func:`read_image`."""
    _check_band_numbers(Path(path), bands, picture.shape[2])
    _check_depth(Path(path), picture.dtype, value_range)
    return picture[..., [band - 1 for band in bands]]


def scale_values(image: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Map ``value_range`` linearly to 0..255 float32, clipped, not-a-number to 0; without a range keep the array."""
    if value_range is None:
        return np.ascontiguousarray(image)
    low, high = check_value_range(value_range)
    scaled = image.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / (high - low))
    np.clip(scaled, 0, 255, out=scaled)
    return np.nan_to_num(scaled, copy=False, nan=0.0)


def check_value_range(value_range: Sequence[float]) -> tuple[float, float]:
    """Return ``(low, high)`` as floats; raise :class:`UserError` unless both are finite and low < high."""
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UserError(f'value_range: expected (low, high) with low < high, found {value_range!r}')
    return low, high


def check_bands(bands: Sequence[int]) -> None:
    """Raise :class:`UserError` unless ``bands`` is a non-empty sequence of positive integers."""
    if not bands or any(not isinstance(band, int | np.integer) or band < 1 for band in bands):
        raise UserError(f'bands: expected 1-based band numbers like (1, 2, 3), found {bands!r}')


def check_readable_as(
    dataset: rasterio.DatasetReader, bands: Sequence[int], value_range: tuple[float, float] | None
) -> None:
    """Raise :class:`UserError` where an open raster lacks one of ``bands`` or needs a ``value_range``."""
    path = Path(dataset.name)
    _check_band_numbers(path, bands, dataset.count)
    for band in bands:
        _check_depth(path, np.dtype(dataset.dtypes[band - 1]), value_range)


def read_valid_mask(
    dataset: rasterio.DatasetReader,
    window: Window | None = None,
    bands: Sequence[int] = (1, 2, 3),
    values: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``(H, W)`` bool, true where an open raster holds data.

    A pixel is invalid where an alpha band is 0, where the file's own mask is 0, where all of ``bands`` hold their
    nodata value, or where any of them is not a number. An alpha band that is itself among ``bands`` counts as
    data: 4-band files of red, green, blue and infrared are often written with an alpha tag by mistake.

    Args:
        dataset: an open raster.
        window: the part to read; default the whole.
        bands: the 1-based bands in use.
        values: ``(len(bands), H, W)`` as read from the file, when the caller has them, saves a second read.
    """
    if values is None:
        values = dataset.read(list(bands), window=window)
    nodata = np.ones(values.shape[1:], dtype=bool)
    for band, plane in zip(bands, values, strict=True):
        value = dataset.nodatavals[band - 1]
        if value is None:
            nodata[:] = False
            break
        nodata &= np.isnan(plane) if np.isnan(value) else plane == value
    valid = ~nodata
    if np.issubdtype(values.dtype, np.floating):
        valid &= ~np.isnan(values).any(axis=0)
    for band, meaning in enumerate(dataset.colorinterp, start=1):
        if meaning == ColorInterp.alpha and band not in bands:
            valid &= dataset.read(band, window=window) > 0
    flags = dataset.mask_flag_enums[bands[0] - 1]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        valid &= dataset.read_masks(bands[0], window=window) > 0
    return valid


def read_mask(
    path: str | Path,
    palette: Sequence[tuple[int, int, int]] | None = None,
    band: int | None = None,
) -> np.ndarray:
    """Read an index mask as ``(H, W)`` uint8; 255 means ignore. A GeoTIFF's nodata value is kept as it stands.

    Args:
        path: PNG (a palette PNG gives its indices, not its colours) or GeoTIFF.
        palette: for a mask stored as RGB colours: colour ``i`` becomes index ``i``. Ignored for one-band masks.
        band: for a GeoTIFF of several bands: which one, from 1.

    Raises:
        UserError: the file is missing, truncated, lossy (JPEG), coloured without a palette, holds colours outside
            the palette, or values that do not fit 0..255.
    """
    path = Path(path)
    if is_raster(path):
        with open_raster(path) as dataset, read_errors(path):
            if band is not None:
                _check_band_numbers(path, [band], dataset.count)
                mask = dataset.read(band)
            elif dataset.count == 1:
                mask = dataset.read(1)
            elif dataset.count >= 3 and palette is not None:
                mask = np.moveaxis(dataset.read([1, 2, 3]), 0, -1)
            else:
                raise UserError(f'{path}: expected a mask of 1 band, found {dataset.count} bands: '
                                'name the band, or give the palette when it is coloured')
    else:
        mask = _read_picture_mask(path)
    if mask.ndim == 3:
        if palette is None:
            raise UserError(f'{path}: expected class indices in one channel, found {mask.shape[2]} colour channels: '
                            'give the palette to read a coloured mask')
        return _colours_to_indices(path, mask, palette)
    if mask.dtype != np.uint8:
        outside = mask[~((mask >= 0) & (mask <= 255) & (mask == np.floor(mask)))]
        if outside.size:
            raise UserError(f'{path}: expected class indices 0..255, found {outside.flat[0]} in {outside.size} pixels')
    return mask.astype(np.uint8)


def write_mask(path: str | Path, mask: np.ndarray, palette: Sequence[Sequence[int]] | None = None) -> None:
    """Write an ``(H, W)`` uint8 mask atomically as PNG, with a colour table when ``palette`` is given."""
    picture = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    if palette is not None:
        colours = [int(value) for colour in palette for value in colour]
        # Always 256 entries: with 16 or fewer Pillow stores 4 bits a pixel, and an ignored 255 comes back as 15.
        picture.putpalette(colours + [0] * (768 - len(colours)))
    with atomic_path(path) as temporary:
        picture.save(temporary, format='PNG')


def _check_band_numbers(path: Path, bands: Sequence[int], count: int) -> None:
    missing = [band for band in bands if not 1 <= band <= count]
    if missing:
        raise UserError(f'{path}: expected bands {tuple(bands)}, found {count} band{"s" if count != 1 else ""} '
                        'in the file: set `bands`')


def _check_depth(path: Path, dtype: np.dtype, value_range: tuple[float, float] | None) -> None:
    if dtype.kind == 'c':
        raise UserError(f'{path}: expected real values, found {dtype}')
    if dtype != np.uint8 and value_range is None:
        raise UserError(f'{path}: expected 8-bit values, found {dtype}: set `value_range=(low, high)` of '
                        'LoadRasterImage to the values that become 0 and 255')


def _open_picture(path: Path) -> Image.Image:
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            picture = Image.open(path)
            picture.load()
    except Image.DecompressionBombError as error:
        raise UserError(f'{path}: too large for a picture: convert it to a GeoTIFF (gdal_translate)') from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # PIL raises all of them for damaged files
        raise UserError(f'{path}: damaged, truncated or no image ({_first_line(error)})') from error
    return picture


def _read_picture_mask(path: Path) -> np.ndarray:
    if path.suffix.lower() in ('.jpg', '.jpeg'):
        raise UserError(f'{path}: expected a lossless mask (PNG or GeoTIFF), found JPEG, whose compression '
                        'changes class indices')
    picture = _open_picture(path)
    if picture.mode not in ('1', 'L', 'P', 'I', 'I;16', 'RGB', 'RGBA'):
        raise UserError(f'{path}: expected class indices in one channel, found a picture of mode {picture.mode}')
    mask = np.asarray(picture)
    depth = _png_bit_depth(path)
    if picture.mode == 'L' and depth in (2, 4):  # Pillow stretches such grey values to 0..255
        mask = mask // (255 // (2**depth - 1))
    return mask.astype(np.uint8) if mask.dtype == bool else mask


def _png_bit_depth(path: Path) -> int | None:
    with open(path, 'rb') as file:
        head = file.read(25)
    return head[24] if head[:8] == b'\x89PNG\r\n\x1a\n' and len(head) == 25 else None


def _colours_to_indices(path: Path, colours: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    if colours.dtype != np.uint8:
        raise UserError(f'{path}: expected 8-bit colours, found {colours.dtype}')
    weights = np.array([1 << 16, 1 << 8, 1])
    codes = colours[..., :3].astype(np.int64) @ weights
    known = np.asarray(palette, dtype=np.int64) @ weights
    order = np.argsort(known, kind='stable')
    position = np.clip(np.searchsorted(known[order], codes), 0, len(known) - 1)
    index = order[position]
    foreign = known[index] != codes
    if foreign.any():
        code = int(codes[foreign][0])
        colour = (code >> 16, code >> 8 & 255, code & 255)
        raise UserError(f'{path}: expected the {len(known)} colours of the palette, found {colour} among '
                        f'{int(foreign.sum())} pixels outside it')
    return index.astype(np.uint8)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:  # rasterio hides GDAL's reason behind "Read failed. See previous exception"
        error = error.__cause__
    return _first_line(error)
