"""Canonical cells: the same points give the same bits, whichever tiles they are read from.

The ground is cut into squares of 50 m on absolute multiples. A cell holds its points and those up to a buffer around
it, in units of 0.1 mm from its centre: whole numbers below 2**24, so that differences are exact in float32, wherever a
tile lies. They are ordered by place alone. Whatever is computed from a cell therefore depends on the points around a
place and on nothing else: not on the tile, its order or its offset.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CELL = 50.0  # metres
UNIT = 1e-4  # metres
BASE = 10_000_000  # units: heights are taken from a multiple of 1 km; differences are the same from any
STRIP = 20_000  # units: points are ordered along squares of 2 m, so that neighbours lie close in memory


@dataclass(frozen=True)
class Cell:
    """The points of one cell and its buffer, in canonical order: a point's number in the cell is its rank.

    Attributes:
        index: Rows of the cloud ``(m,)`` int64.
        own: Which of them belong to the tile and lie inside the cell ``(m,)`` bool; every point of a tile is in one.
        inside: Which of them lie inside the cell, whoever they belong to ``(m,)`` bool.
        units: x, y, z in 0.1 mm from the cell's centre, ``(m, 3)`` float32, whole numbers.
        box: x0, y0, x1, y1 in units: inside it every point is known.
    """

    index: np.ndarray
    own: np.ndarray
    inside: np.ndarray
    units: np.ndarray
    box: tuple[float, float, float, float]

    @property
    def local(self) -> np.ndarray:
        """x, y, z in metres from the cell's centre, rounded to 0.1 mm, ``(m, 3)`` float32."""
        return self.units * np.float32(UNIT)


def iter_cells(xyz: np.ndarray, own: np.ndarray, buffer: float) -> Iterator[Cell]:
    """Yield the cells in which own points lie.

    Args:
        xyz: Absolute coordinates in metres, ``(M, 3)`` float64.
        own: Which points are the tile's; the others are its neighbours' ``(M,)`` bool. All points up to ``buffer``
            metres around the box of the own points must be there.
        buffer: Metres around a cell, 0 or more.
    """
    if not own.any():
        return
    # Whole numbers from here on: coordinates of the same place may differ in their last bits.
    x, y = np.rint(xyz[:, 0] / UNIT), np.rint(xyz[:, 1] / UNIT)
    side, buffer = round(CELL / UNIT), np.ceil(buffer / UNIT)
    column, row = np.floor(x / side), np.floor(y / side)
    mine_x, mine_y = (column, row) if own.all() else (column[own], row[own])
    reach = int(np.ceil(buffer / side))  # a cell and its buffer lie in so many cells more on each side
    low = np.array([mine_x.min(), mine_y.min()]) - reach
    columns, rows = (np.array([mine_x.max(), mine_y.max()]) - low).astype(int) + 1 + reach
    known = (column >= low[0]) & (column < low[0] + columns) & (row >= low[1]) & (row < low[1] + rows)
    group = np.where(known, (column - low[0]) * rows + row - low[1], columns * rows)
    group = group.astype(np.min_scalar_type(columns * rows))  # 16 bits are sorted in linear time
    order = np.argsort(group, kind='stable')
    starts = np.searchsorted(group, np.arange(columns * rows + 1), sorter=order)
    for number in np.unique(group[own]):
        i, j = divmod(int(number), rows)
        mine = order[starts[number]:starts[number + 1]]
        mine = mine[own[mine]]
        centre = (low + (i, j)) * side + side // 2
        half = side / 2
        # No farther than the buffer from the cell's own points: a cell that a tile only touches stays small.
        box = (max(x[mine].min() - centre[0], -half) - buffer, max(y[mine].min() - centre[1], -half) - buffer,
               min(x[mine].max() - centre[0], half) + buffer, min(y[mine].max() - centre[1], half) + buffer)
        at = np.concatenate([order[starts[a * rows + j - reach]:starts[a * rows + j + reach + 1]]
                             for a in range(i - reach, i + reach + 1)])
        if reach:
            east, north = x[at] - centre[0], y[at] - centre[1]
            at = at[(east >= box[0]) & (north >= box[1]) & (east <= box[2]) & (north <= box[3])]
        z = np.rint(xyz[at, 2] / UNIT)
        units = np.stack([x[at] - centre[0], y[at] - centre[1], z - BASE * np.round(np.median(z) / BASE)])
        rank = canonical_order(units)
        at = at[rank]
        inside = group[at] == number
        yield Cell(at, inside & own[at], inside, np.ascontiguousarray(units[:, rank].T, np.float32), box)


def canonical_order(units: np.ndarray) -> np.ndarray:
    """Return the order of points by square of 2 m, then x, y, z: whole numbers ``(3, m)`` to ``(m,)`` int64.

    The order of two points depends on these two alone.
    """
    x, y, z = units + np.array([[CELL / UNIT / 2], [CELL / UNIT / 2], [0]])
    keys = [np.floor(x / STRIP), np.floor(y / STRIP)]
    keys += [x - STRIP * keys[0], y - STRIP * keys[1], z]
    keys = [key - key.min(initial=0) for key in keys]
    sides = [int(key.max(initial=0)) + 1 for key in keys]
    if np.prod(sides, dtype=float) >= 2 ** 63:
        return np.lexsort(keys[::-1])
    packed = np.zeros(len(x), np.int64)
    for key, side in zip(keys, sides):
        packed *= side
        packed += key.astype(np.int64)
    return np.argsort(packed)
