"""A prediction and its truth as the field's measures see them: normalised levels and their counts."""

from dataclasses import dataclass

import cv2
import numpy as np

from projects.engine.errors import UserError

FOREGROUND = 128  # a truth above this is object
STRIP = 1 << 24  # pixels counted at once: OpenCV counts in float32, which is exact so far


@dataclass(frozen=True)
class Pair:
    """One image, counted once for all measures.

    A prediction has 256 grey values, so that every mean, variance and curve over pixels is a sum over counts of grey
    values. The counts are kept for the four regions into which the centroid of the object cuts the image, because
    the structure measure asks for them; their sum is the whole image.
    """

    prediction: np.ndarray  # (H, W) uint8
    truth: np.ndarray  # (H, W) uint8, 0 or 1
    levels: np.ndarray  # (256,) float64: what a grey value is after min-max over this image
    normalised: np.ndarray  # (H, W) float64, levels[prediction]
    regions: tuple[tuple[slice, slice], ...]  # left top, right top, left bottom, right bottom; some may be empty
    counts: np.ndarray  # (4, 2, 256) int64: region, background or object, grey value
    box: tuple[slice, slice] | None  # the smallest box around the object; None without one

    @property
    def background(self) -> np.ndarray:
        """Number of pixels outside the object at each grey value, (256,) int64."""
        return self.counts[:, 0].sum(axis=0)

    @property
    def foreground(self) -> np.ndarray:
        """Number of the object's pixels at each grey value, (256,) int64."""
        return self.counts[:, 1].sum(axis=0)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.truth.size

    @property
    def adaptive_threshold(self) -> float:
        """Twice the mean of the normalised prediction, at most 1."""
        return min(2 * float(self.normalised.mean()), 1.0)


def pair(prediction: np.ndarray, truth: np.ndarray) -> Pair:
    """Normalise a prediction by its own smallest and largest value, and count it against its truth.

    A constant prediction is not stretched: it stays at its grey value / 255.

    Args:
        prediction: (H, W) uint8, 0 = surely background, 255 = surely object.
        truth: (H, W) uint8, the object above 128.

    Raises:
        UserError: another type or shape, different sizes, no pixels, or a truth of zeros and ones.
    """
    for name, array in (('prediction', prediction), ('truth', truth)):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 2 or not array.size:
            found = f'{array.dtype} {array.shape}' if isinstance(array, np.ndarray) else type(array).__name__
            raise UserError(f'{name}: expected a map (H, W) of uint8, found {found}')
    if prediction.shape != truth.shape:
        raise UserError(f'prediction and truth: expected one size, found {prediction.shape[1]}x{prediction.shape[0]} '
                        f'and {truth.shape[1]}x{truth.shape[0]}')
    if truth.max() == 1:
        raise UserError('truth: expected 0 and 255, found 0 and 1 (multiply it by 255)')
    prediction = np.ascontiguousarray(prediction)
    truth = (truth > FOREGROUND).view(np.uint8)
    levels = np.arange(256) / 255
    low, high = levels[prediction.min()], levels[prediction.max()]
    if low != high:
        levels = np.clip((levels - low) / (high - low), 0, 1)
    rows, columns = (cv2.reduce(truth, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    height, width = truth.shape
    y, x = (_centroid(along) for along in (rows, columns))
    regions = tuple((vertical, horizontal) for vertical in (slice(0, y), slice(y, height))
                    for horizontal in (slice(0, x), slice(x, width)))
    return Pair(prediction, truth, levels, cv2.LUT(prediction, levels), regions,
                np.stack([_count(prediction[region], truth[region]) for region in regions]),
                (_extent(rows), _extent(columns)) if rows.any() else None)


def _centroid(along: np.ndarray) -> int:
    """Return the number of rows up to the centroid's, it included; without an object those up to the middle."""
    total = int(along.sum(dtype=np.int64))
    if not total:
        return min(round(len(along) / 2) + 1, len(along))
    return round(int(np.dot(along.astype(np.int64), np.arange(len(along)))) / total) + 1


def _extent(along: np.ndarray) -> slice:
    found = np.flatnonzero(along)
    return slice(int(found[0]), int(found[-1]) + 1)


def _count(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count pixels by (background or object, grey value): (2, 256) int64."""
    counts = np.zeros((2, 256), np.int64)
    if not prediction.size:
        return counts
    step = max(STRIP // prediction.shape[1], 1)
    for top in range(0, len(prediction), step):
        part = slice(top, top + step)
        counts += cv2.calcHist([truth[part], prediction[part]], [0, 1], None, [2, 256], [0, 2, 0, 256]).astype(np.int64)
    return counts
