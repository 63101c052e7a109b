"""Affine maps of the image plane, (2, 3) on (x, y, 1), px, pixel-corner origin: pixel i covers [i, i + 1)."""

import numpy as np


def horizontal_flip(width: float) -> np.ndarray:
    """Return x -> width - x."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0]])


def vertical_flip(height: float) -> np.ndarray:
    """Return y -> height - y."""
    return np.array([[1.0, 0.0, 0.0], [0.0, -1.0, height]])


def quarter_turns(turns: int, size: tuple[int, int]) -> np.ndarray:
    """Return what `numpy.rot90` does to an image: `turns` quarter turns against the clock.

    Args:
        turns: Any whole number.
        size: (height, width) of the image before.
    """
    height, width = size
    return np.array([
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[0.0, 1.0, 0.0], [-1.0, 0.0, width]],
        [[-1.0, 0.0, width], [0.0, -1.0, height]],
        [[0.0, -1.0, height], [1.0, 0.0, 0.0]],
    ][turns % 4])


def rotation(angle: float, centre: tuple[float, float]) -> np.ndarray:
    """Return a turn by `angle` degrees, against the clock as one sees it, about `centre` (x, y)."""
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return np.column_stack([turn, np.asarray(centre) - turn @ np.asarray(centre)])


def scaling(factor: float, dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
    """Return (x, y) -> (factor x + dx, factor y + dy)."""
    return np.array([[factor, 0.0, dx], [0.0, factor, dy]])


def on_pixel_centres(matrix: np.ndarray) -> np.ndarray:
    """Return the same map for OpenCV, whose whole numbers are the centres of pixels, half a pixel off the corners."""
    shifted = np.array(matrix, float)
    shifted[:, 2] += shifted[:, :2].sum(axis=1) / 2 - 0.5
    return shifted


def after_letterbox(
    letterbox: tuple[float, float, float] | None, matrix: np.ndarray
) -> tuple[float, float, float] | None:
    """Return (scale, dx, dy) of a letterbox followed by a map, or None where that is no letterbox any more.

    Args:
        letterbox: x_now = x_file * scale + dx, and so for y; None: it was none before.
        matrix: (2, 3); only a scaling by one factor with a shift keeps it one.
    """
    (a, b, c), (d, e, f) = np.asarray(matrix, float).tolist()
    if letterbox is None or b or d or a != e or a <= 0:
        return None
    scale, dx, dy = letterbox
    return a * scale, a * dx + c, a * dy + f
