"""Painting polygons on a window of the ground's pixel grid.

The grid of a resolution is fixed to the scene: pixel (row, column) covers [column, column + 1] x [row, row + 1] times
the resolution, rows counted upward. A window is a piece of it, so two windows agree wherever they overlap.
"""

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import Polygon


@dataclass(frozen=True)
class Window:
    """Rows [row, row + height) and columns [column, column + width) of the grid of ``resolution`` metres."""

    row: int
    column: int
    height: int
    width: int
    resolution: float

    @property
    def x(self) -> np.ndarray:
        """Pixel centres of the columns (W,), metres."""
        return (np.arange(self.column, self.column + self.width) + 0.5) * self.resolution

    @property
    def y(self) -> np.ndarray:
        """Pixel centres of the rows (H,), metres, upward."""
        return (np.arange(self.row, self.row + self.height) + 0.5) * self.resolution

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in metres."""
        r = self.resolution
        return (self.column * r, self.row * r, (self.column + self.width) * r, (self.row + self.height) * r)

    def grown(self, pixels: int) -> 'Window':
        """The window with a margin on all sides."""
        return Window(self.row - pixels, self.column - pixels, self.height + 2 * pixels, self.width + 2 * pixels,
                      self.resolution)


def rings(polygon: Polygon) -> np.ndarray:
    """All edges (N, 4) as x0, y0, x1, y1 of a polygon's rings."""
    edges = []
    for ring in (polygon.exterior, *polygon.interiors):
        p = shapely.get_coordinates(ring)
        edges.append(np.hstack([p[:-1], p[1:]]))
    return np.vstack(edges)


def edges_of(corners: np.ndarray) -> np.ndarray:
    """Edges (N, 4) of a closed ring given by its corners (N, 2)."""
    return np.hstack([corners, np.roll(corners, -1, axis=0)])


def fill(edges: np.ndarray, window: Window) -> tuple[slice, slice, np.ndarray] | None:
    """Pixels whose centre lies inside (even-odd rule) the rings with the given edges (N, 4).

    Returns rows, columns (slices into the window) and the boolean mask there, or None when nothing is hit. Each
    crossing of an edge with a row is computed from the edge alone, so the result does not depend on the window.
    """
    inverse = 1.0 / window.resolution
    # A row is crossed by an edge when its centre lies in [lower end, upper end)
    x0, y0, x1, y1 = edges.T * inverse
    flip = y0 > y1
    x0, x1 = np.where(flip, x1, x0), np.where(flip, x0, x1)
    y0, y1 = np.where(flip, y1, y0), np.where(flip, y0, y1)
    first = np.ceil(y0 - 0.5).astype(np.int64) - window.row
    last = np.ceil(y1 - 0.5).astype(np.int64) - window.row
    first, last = np.clip(first, 0, window.height), np.clip(last, 0, window.height)
    count = last - first
    hit = count > 0
    if not hit.any():
        return None
    x0, y0, x1, y1, first, count = (v[hit] for v in (x0, y0, x1, y1, first, count))
    low = int(first.min())
    high = int((first + count).max())
    start = np.cumsum(count) - count
    edge = np.repeat(np.arange(len(count)), count)
    row = first[edge] + (np.arange(len(edge)) - start[edge])
    slope = (x1 - x0) / (y1 - y0)
    crossing = x0[edge] + ((row + window.row) + 0.5 - y0[edge]) * slope[edge]
    column = np.ceil(crossing - 0.5).astype(np.int64) - window.column
    column = np.clip(column, 0, window.width)
    left, right = int(column.min()), int(column.max())
    if left >= right:
        return None
    shape = (high - low, right - left + 1)
    toggles = np.bincount((row - low) * shape[1] + (column - left), minlength=shape[0] * shape[1]).reshape(shape)
    mask = (np.cumsum(toggles, axis=1)[:, :-1] & 1).astype(bool)
    return slice(low, high), slice(left, right), mask
