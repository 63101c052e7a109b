"""Pictures as Pillow decodes them, whole or not at all: OpenCV returns the readable part of a truncated file."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from projects.engine.errors import UserError

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
DEEP_GREY = ('I;16', 'I;16B', 'I;16L', 'I;16N', 'I')  # how Pillow calls 16-bit grey


@contextmanager
def open_picture(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture; what cannot be read inside the block is a :class:`UserError` that names the file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    try:
        with Image.open(path) as picture:
            yield picture
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f'{path}: expected a whole image, found one that is damaged or truncated ({error})') from error


def read_photograph(path: str | Path, mask: str | Path | None = None) -> np.ndarray:
    """Read a photograph as (H, W, 3) uint8, RGB, whatever it is stored as.

    Grey becomes three equal channels, a palette its colours, 16 bits 8 bits (v / 257), and alpha is dropped.

    Args:
        path: JPEG, PNG, BMP, TIFF or WebP.
        mask: Its mask. An image that EXIF says to turn is turned upright, unless its mask has the size of the image
            as it is stored, and of that alone: then whoever drew the mask did not see it turned.

    Raises:
        UserError: no such file, damaged or truncated, or values that are no 8 or 16 bits.
    """
    with open_picture(path) as picture:
        turned = orientation(picture) != 1 and not _drawn_as_stored(picture, mask)
        picture.load()
        if picture.mode in DEEP_GREY:
            values = np.asarray(picture).astype(np.int64)
            if values.min() < 0 or values.max() > 65535:
                raise UserError(f'{path}: expected values of 8 or 16 bits, found {values.min()} to {values.max()}')
            array = np.repeat(((values + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
            return np.array(ImageOps.exif_transpose(_with_exif(Image.fromarray(array), picture))) if turned else array
        if picture.mode == 'F':
            raise UserError(f'{path}: expected values of 8 or 16 bits, found floating-point numbers')
        if turned:
            picture = ImageOps.exif_transpose(picture)
        if picture.mode == 'P':  # by way of RGBA: a palette with transparency
            picture = picture.convert('RGBA')
        return np.array(picture.convert('RGB'))


def picture_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) as a picture is stored, from its header."""
    with open_picture(path) as picture:
        return picture.height, picture.width


def orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation of an open picture, 1 (upright) to 8; 1 where it has none or an unknown one."""
    found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1


def _drawn_as_stored(picture: Image.Image, mask: str | Path | None) -> bool:
    """Say whether a mask fits an image that EXIF says to turn only as long as it is not turned."""
    if mask is None or orientation(picture) < 5:  # 2 to 4 do not change the size
        return False
    stored = (picture.height, picture.width)
    return stored[0] != stored[1] and picture_size(mask) == stored


def _with_exif(picture: Image.Image, source: Image.Image) -> Image.Image:
    picture.getexif()[ExifTags.Base.Orientation] = orientation(source)
    return picture
