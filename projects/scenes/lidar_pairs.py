"""Which pulses may meet which things: boxes against pulses sorted into cells, without a loop over either."""

import numpy as np

_CELL = 1.0  # metres


def expanded(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All whole numbers of the ranges [low, high): (index of the range, number) of each."""
    count = np.maximum(high - low, 0)
    total = int(count.sum())
    owner = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    return owner, np.arange(total) - np.repeat(start - low, count)


class PulseGrid:
    """Places ``s``, ``c`` (N,) sorted into cells of a metre."""

    def __init__(self, s: np.ndarray, c: np.ndarray):
        self._left, self._bottom = float(s.min()), float(c.min())
        column = ((s - self._left) / _CELL).astype(np.int64)
        row = ((c - self._bottom) / _CELL).astype(np.int64)
        self._columns, self._rows = int(column.max()) + 1, int(row.max()) + 1
        cell = row * self._columns + column
        self._order = np.argsort(cell, kind='stable')
        counts = np.bincount(cell, minlength=self._columns * self._rows)
        self._start = np.concatenate([[0], np.cumsum(counts)])

    def pairs(self, left: np.ndarray, bottom: np.ndarray, right: np.ndarray,
              top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(box, place) of all places in the cells that the boxes (B,) touch: a superset of those inside."""
        c0 = np.clip(np.floor((left - self._left) / _CELL), 0, self._columns).astype(np.int64)
        c1 = np.clip(np.floor((right - self._left) / _CELL) + 1, 0, self._columns).astype(np.int64)
        r0 = np.clip(np.floor((bottom - self._bottom) / _CELL), 0, self._rows).astype(np.int64)
        r1 = np.clip(np.floor((top - self._bottom) / _CELL) + 1, 0, self._rows).astype(np.int64)
        box, row = expanded(np.where(c1 > c0, r0, 0), np.where(c1 > c0, r1, 0))
        # A row of cells is one run of the sorted places
        run, position = expanded(self._start[row * self._columns + c0[box]], self._start[row * self._columns + c1[box]])
        return box[run], self._order[position]
