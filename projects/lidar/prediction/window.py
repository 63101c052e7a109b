"""How much a patch's answer counts at a point: most at its centre, where it sees on all sides."""

import numpy as np

FLOOR = 1e-3  # at the very edge, where at the border of a tile no other patch may reach


def centre_weights(x: np.ndarray, y: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the weight of each point of a patch, (n,) float32 in FLOOR² .. 1.

    The product of one raised cosine for each axis, ``FLOOR + (1 - FLOOR) sin²(pi t)`` with t from 0 to 1 across the
    patch. It falls to (nearly) nothing at the edge, so an answer fades in and out and leaves no seam.

    Args:
        x, y: Coordinates (n,), metres.
        box: ``x0, y0, x1, y1`` of the patch in the same coordinates; a side of no length counts fully.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    return (_axis(x, x0, x1) * _axis(y, y0, y1)).astype(np.float32)


def _axis(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if high <= low:
        return np.ones(len(values))
    share = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0.0, 1.0)
    return FLOOR + (1 - FLOOR) * np.sin(np.pi * share) ** 2
