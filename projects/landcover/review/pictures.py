"""The pictures of the review page: image, label, predictions, and where they differ, as bytes for a browser."""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath

import cv2
import numpy as np
from PIL import Image

from projects.engine.errors import UserError
from projects.geo.raster import is_raster
from projects.landcover.data.candidates import Candidates, Source, decode_labels
from projects.landcover.taxonomy import Taxonomy

LONGEST = 2048  # pixels a side: larger pictures are reduced, the browser has no use for more
DARK, BRIGHT, CLEAR, HATCH = 250, 251, 252, (253, 254)  # palette entries that no class uses
EDGE_COLOURS = {DARK: (20, 20, 20), BRIGHT: (255, 255, 255), HATCH[0]: (120, 120, 120), HATCH[1]: (185, 185, 185)}
JPEG, PNG = 'image/jpeg', 'image/png'


class Pictures:
    """Renders the pictures of items, keeping the last ones.

    Args:
        candidates: What is reviewed.
        keep: Number of pictures to keep.
    """

    def __init__(self, candidates: Candidates, keep: int = 96) -> None:
        self.taxonomy = candidates.taxonomy
        self.items = candidates.items
        self._render = lru_cache(maxsize=keep)(self._rendered)
        self._labels = lru_cache(maxsize=keep)(self._read_labels)

    def image(self, number: int) -> tuple[bytes, str]:
        """Return an item's image and its media type; the errors are those of :func:`decode_image`."""
        return self._render(number, 'image', '')

    def classes(self, number: int, letter: str = '') -> tuple[bytes, str]:
        """Return the classes of a model's prediction, or of the label, as a coloured PNG; ignored pixels are hatched.

        Raises:
            UserError: the file has changed, is damaged, or has another size or other labels than it should.
        """
        return self._render(number, 'classes', letter)

    def difference(self, number: int, letter: str = '') -> tuple[bytes, str]:
        """Return where a prediction and the label differ, in the prediction's colours, clear elsewhere.

        Without a letter: the label's colours wherever any prediction differs from it. Raises as :meth:`classes`.
        """
        return self._render(number, 'difference', letter)

    def present(self, number: int) -> list[int]:
        """Return the classes that occur in an item's label or predictions; the ignore label too."""
        item = self.items[number]
        found = np.zeros(256, bool)
        for letter in ('', *item.predictions):
            found[np.unique(self._labels(number, letter))] = True
        return np.flatnonzero(found).tolist()

    def share(self, number: int, letter: str) -> float:
        """Return the share of pixels, 0..1, where a prediction differs from the label; unlabelled ones do not count."""
        label, prediction = self._labels(number, ''), self._labels(number, letter)
        labelled = label != self.taxonomy.ignore_index
        return float((label != prediction)[labelled].mean()) if labelled.any() else 0.0

    def _read_labels(self, number: int, letter: str) -> np.ndarray:
        item = self.items[number]
        source = item.predictions[letter] if letter else item.mask
        return decode_labels(source.read(), source.name, item, self.taxonomy)

    def _rendered(self, number: int, kind: str, letter: str) -> tuple[bytes, str]:
        item = self.items[number]
        if kind == 'image':
            return encode_image(decode_image(item.image))
        labels = self._labels(number, letter)
        if kind == 'classes':
            return encode_classes(labels, self.taxonomy), PNG
        label = self._labels(number, '')
        others = [letter] if letter else list(item.predictions)
        differs = np.zeros(label.shape, bool)
        for other in others:
            differs |= self._labels(number, other) != label
        return encode_classes(labels, self.taxonomy, differs), PNG


def decode_image(source: Source) -> np.ndarray:
    """Return an image ``(H, W, 3)`` uint8 RGB: the first three bands, or one as grey; deeper ones are stretched.

    Raises:
        UserError: the file has changed, or is no readable image.
    """
    data = source.read()
    try:
        if is_raster(PurePosixPath(source.name)):
            pixels = _decode_raster(data)
        else:
            picture = Image.open(io.BytesIO(data))
            pixels = np.asarray(picture if picture.mode.startswith('I') else picture.convert('RGB'))
    except Exception as error:  # decoders raise many kinds
        raise UserError(f'{source.name}: not a readable image ({type(error).__name__})') from error
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    if pixels.dtype != np.uint8:
        values = pixels.astype(np.float32)
        low, high = np.nanpercentile(values, (1, 99))
        pixels = np.nan_to_num((values - low) * (255 / max(float(high - low), 1e-6))).clip(0, 255).astype(np.uint8)
    return pixels


def encode_image(pixels: np.ndarray) -> tuple[bytes, str]:
    """Encode an image ``(H, W, 3)`` as JPEG, reduced to :data:`LONGEST`."""
    height, width = pixels.shape[:2]
    if max(height, width) > LONGEST:
        scale = LONGEST / max(height, width)
        pixels = cv2.resize(pixels, (max(round(width * scale), 1), max(round(height * scale), 1)),
                            interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format='JPEG', quality=92, subsampling=0)
    return file.getvalue(), JPEG


def encode_classes(labels: np.ndarray, taxonomy: Taxonomy, where: np.ndarray | None = None) -> bytes:
    """Encode class ids ``(H, W)`` as an indexed PNG in the taxonomy's colours, reduced to :data:`LONGEST`.

    Args:
        labels: Class ids; ignored pixels become hatched.
        taxonomy: Gives the colours.
        where: ``(H, W)`` bool: all else becomes clear, and an edge of black and white is drawn around it.
    """
    height, width = labels.shape
    if max(height, width) > LONGEST:
        scale = LONGEST / max(height, width)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        where = None if where is None else cv2.resize(where.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    indices = labels.copy()
    rows, columns = np.nonzero(labels == taxonomy.ignore_index)
    indices[rows, columns] = np.where((rows + columns) // 4 % 2 == 0, *np.uint8(HATCH))
    if where is not None:
        indices = _only(indices, where)
    picture = Image.fromarray(indices)  # 'L'; putpalette makes it 'P'
    picture.putpalette(palette_bytes(taxonomy.palette))
    file = io.BytesIO()
    picture.save(file, format='PNG', compress_level=3, **({} if where is None else {'transparency': CLEAR}))
    return file.getvalue()


def palette_bytes(palette: Sequence[Sequence[int]]) -> list[int]:
    """Return 256 RGB triples, flat: the classes' colours, and those of edges and hatching."""
    table = [tuple(colour) for colour in palette] + [(0, 0, 0)] * (256 - len(palette))
    for index, colour in EDGE_COLOURS.items():
        table[index] = colour
    return [value for colour in table for value in colour]


def _only(indices: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Clear all but `where` and draw its edge outside of it: white, then dark, so that it shows on every ground."""
    result = np.full_like(indices, CLEAR)
    kernel = np.ones((3, 3), np.uint8)
    inner = cv2.dilate(where.astype(np.uint8), kernel)
    result[cv2.dilate(inner, kernel) > 0] = DARK
    result[inner > 0] = BRIGHT
    result[where] = indices[where]
    return result


def _decode_raster(data: bytes) -> np.ndarray:
    from rasterio.io import MemoryFile

    with MemoryFile(data) as memory, memory.open(driver='GTiff') as dataset:  # a VRT would open other files
        scale = min(LONGEST / max(dataset.width, dataset.height), 1.0)
        bands = [1, 2, 3] if dataset.count >= 3 else [1]
        shape = (len(bands), max(round(dataset.height * scale), 1), max(round(dataset.width * scale), 1))
        return np.moveaxis(dataset.read(bands, out_shape=shape), 0, -1)
