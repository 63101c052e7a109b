"""Predict a raster of any size window by window, blend the overlaps, and keep only a band of rows in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from projects.engine.errors import UserError
from projects.engine.progress import progress

GRID_STRIDE = 4  # pixels between the points at which a network decides: segmentation heads answer at a quarter size

PredictWindows = Callable[[np.ndarray], np.ndarray]
"""From ``(N, C, H, W)`` float32, 0..255, to ``(N, classes + extra, H, W)`` scores, which may be averaged."""

ReadBand = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""From first row and number of rows to the image ``(rows, width, C)`` and its valid mask ``(rows, width)``."""


@dataclass(frozen=True)
class Band:
    """Finished rows of a blended prediction.

    The arrays are views of working memory: use or copy them before asking for the next band.
    """

    top: int
    scores: np.ndarray  # (classes, rows, width) float32
    extra: np.ndarray  # (planes, rows, width) float32: what the model gave beside the scores
    image: np.ndarray  # (rows, width, C), as read
    valid: np.ndarray  # (rows, width) bool


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """Return the first pixels of the windows that cover ``length``, each window full, the last one shifted back.

    A length below the window gives one window, to be padded. Steps cycle through window - overlap, and 1, 2 and 3
    pixels less. Reason: networks decide on a grid of 4 pixels, and between its points their classes change far more
    often at some pixels than at others (by 0.066 against 0.039 a pixel where it was measured). With steps all
    divisible by 4, every window border would lie on the busiest of them.
    """
    check_windows(window, overlap)
    step, last = window - overlap, length - window
    cycle = GRID_STRIDE if overlap and step >= 4 * GRID_STRIDE else 1
    starts = [0]
    while starts[-1] < last:
        if starts[-1] + step >= last:
            starts.append(last)
        else:
            starts.append(starts[-1] + step - (len(starts) - 1) % cycle)
    return starts


def taper(window: int, overlap: int) -> np.ndarray:
    """Return ``(window,)`` float64 weights: 1 in the middle, a raised cosine towards both ends, always above 0.

    The ramps are ``overlap`` pixels long, at most half a window; two neighbours' ramps add up to 1.
    """
    check_windows(window, overlap)
    ramp_length = min(overlap, window // 2)
    weights = np.ones(window)
    if ramp_length:
        ramp = np.sin(0.5 * np.pi * (np.arange(ramp_length) + 0.5) / ramp_length) ** 2
        weights[:ramp_length] = ramp
        weights[-ramp_length:] = ramp[::-1]
    return weights


def axis_weights(length: int, window: int, overlap: int) -> tuple[list[int], np.ndarray]:
    """Return the window starts along one axis and their weights ``(windows, window)`` float32, normalised.

    Over every pixel of the axis the weights of all windows that cover it sum to 1. Weights of a two-dimensional
    grid are the products of its two axes' weights, and so sum to 1 as well: no accumulator of weights is needed.
    """
    starts = window_starts(length, window, overlap)
    shape = taper(window, overlap)
    total = np.zeros(max(length, window))
    for start in starts:
        total[start:start + window] += shape
    return starts, np.stack([shape / total[start:start + window] for start in starts]).astype(np.float32)


def check_windows(window: int, overlap: int) -> None:
    """Raise :class:`UserError` unless window > 0 and 0 <= overlap < window."""
    if window < 1:
        raise UserError(f'window: expected a size of at least 1 pixel, found {window}')
    if not 0 <= overlap < window:
        raise UserError(f'overlap: expected 0 <= overlap < window ({window}), found {overlap}')


class BandAccumulator:
    """Weighted sums of window scores for the rows that later windows can still change.

    Args:
        classes: channels of the scores.
        rows: rows kept, the height of a window (or of the raster, where that is less).
        width: width of the raster.
    """

    def __init__(self, classes: int, rows: int, width: int) -> None:
        self.top = 0
        self.scores = np.zeros((classes, rows, width), dtype=np.float32)

    def add(self, left: int, scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        """Add one window's ``(classes, h, w)`` scores at column ``left``, weighted by ``(h,)`` and ``(w,)``."""
        height, width = min(len(rows), self.scores.shape[1]), min(len(columns), self.scores.shape[2] - left)
        weights = rows[:height, None] * columns[None, :width]
        self.scores[:, :height, left:left + width] += scores[:, :height, :width] * weights

    def finished(self, rows: int) -> np.ndarray:
        """Return a view of the first ``rows`` rows."""
        return self.scores[:, :rows]

    def advance(self, rows: int) -> None:
        """Drop the first ``rows`` rows, and make room for as many below."""
        kept = self.scores.shape[1] - rows
        for plane in self.scores:  # plane by plane: numpy copies what overlaps, and a plane is the smaller copy
            plane[:kept] = plane[rows:]
        self.scores[:, kept:] = 0
        self.top += rows


def predict_bands(
    predict_windows: PredictWindows,
    read_band: ReadBand,
    height: int,
    width: int,
    classes: int,
    window: int = 512,
    overlap: int = 128,
    batch_size: int = 2,
    description: str = 'predict',
    extra: int = 0,
) -> Iterator[Band]:
    """Predict a raster in overlapping windows and yield it from top to bottom as blended bands of rows.

    Memory is that of one row of windows (``classes x window x width`` float32, and the image's rows), whatever the
    height. Every window given to the network is full: the last ones are shifted back, and a raster smaller than
    the window is padded by reflection. A window without a valid pixel is not given to the network.

    Args:
        predict_windows: the model, see :data:`PredictWindows`.
        read_band: the source, see :data:`ReadBand`. Invalid pixels reach the network as 0.
        height, width: size of the raster in pixels.
        classes: channels of the scores.
        window: side of a window in pixels.
        overlap: pixels shared by neighbouring windows, blended by :func:`taper`.
        batch_size: windows given to the network at once.
        description: label of the progress bar.
        extra: planes that the model gives after the scores, blended in the same way.

    Yields:
        Bands that together cover every row once. Scores are 0 where only skipped windows lie.

    Raises:
        UserError: window, overlap or batch size out of range.
        ValueError: the model returns another shape than ``(N, classes + extra, window, window)``.
    """
    if batch_size < 1:
        raise UserError(f'batch_size: expected at least 1, found {batch_size}')
    tops, row_weights = axis_weights(height, window, overlap)
    lefts, column_weights = axis_weights(width, window, overlap)
    accumulator = BandAccumulator(classes + extra, min(window, height), width)
    plan = [(i, j) for i in range(len(tops)) for j in range(len(lefts))]
    batch: list[tuple[int, np.ndarray]] = []

    def flush(i: int) -> None:
        if not batch:
            return
        inputs = np.stack([pixels for _, pixels in batch])
        scores = np.asarray(predict_windows(inputs))
        expected = (len(batch), classes + extra, window, window)
        if scores.shape != expected:
            raise ValueError(f'the model returned scores of shape {scores.shape}, expected {expected}')
        for (j, _), window_scores in zip(batch, scores, strict=True):
            accumulator.add(lefts[j], window_scores, row_weights[i], column_weights[j])
        batch.clear()

    image = valid = None
    for i, j in progress(plan, description, unit='window'):
        if j == 0:
            image, valid = read_band(tops[i], min(window, height - tops[i]))
        columns = slice(lefts[j], lefts[j] + window)
        if valid[:, columns].any():
            batch.append((j, _window_input(image[:, columns], valid[:, columns], window)))
        last = j == len(lefts) - 1
        if len(batch) == batch_size or last:
            flush(i)
        if last:
            rows = (tops[i + 1] if i + 1 < len(tops) else height) - tops[i]
            finished = accumulator.finished(rows)
            yield Band(tops[i], finished[:classes], finished[classes:], image[:rows], valid[:rows])
            accumulator.advance(rows)


def _window_input(image: np.ndarray, valid: np.ndarray, window: int) -> np.ndarray:
    """Return ``(C, window, window)`` float32 from ``(h, w, C)``, invalid pixels 0, padded by reflection."""
    pixels = np.where(valid[..., None], image, 0).astype(np.float32)
    short = [(0, window - size) for size in pixels.shape[:2]]
    if any(after for _, after in short):
        pixels = np.pad(pixels, [*short, (0, 0)], mode='reflect')
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
