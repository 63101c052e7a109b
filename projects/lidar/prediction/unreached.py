"""Points that lie in no patch (outliers, mostly): which classified point is nearest."""

import numpy as np

from projects.lidar.prediction.interpolation import nearest

STRIP = 500_000  # points searched at once
MARGIN = 10.0  # metres: the first search looks this far beyond a strip


def nearest_reached(xyz: np.ndarray, quantum: float, order: np.ndarray, reached: np.ndarray,
                    ) -> tuple[np.ndarray, np.ndarray]:
    """Return the unreached rows and the reached row nearest to each, in three dimensions.

    Strips along y keep memory bounded. A point with nothing within the margin is looked up in the whole tile.

    Args:
        xyz: (N, 3) int32, in steps of ``quantum`` metres.
        quantum: Metres.
        order: (N,) rows by y.
        reached: (N,) bool, at least one of them True.

    Returns:
        Rows that were not reached (m,) int64, and the nearest reached rows (m,) int64.
    """
    missing = order[~reached[order]].astype(np.int64)
    found = np.full(len(missing), -1, np.int64)
    if not len(missing):
        return missing, found
    known = order[reached[order]].astype(np.int64)
    y_missing, y_known = xyz[missing, 1], xyz[known, 1]
    margin = int(MARGIN / quantum)
    starts = range(0, len(known), STRIP)
    edges = [int(y_known[start]) for start in starts][1:]
    strip_of = np.searchsorted(edges, y_missing, side='right')
    for strip in np.unique(strip_of):
        own = np.flatnonzero(strip_of == strip)
        first = np.searchsorted(y_known, int(y_missing[own[0]]) - margin, side='left')
        last = np.searchsorted(y_known, int(y_missing[own[-1]]) + margin, side='right')
        if first == last:
            continue
        row, squared = _search(xyz, quantum, known[first:last], missing[own])
        near = squared <= MARGIN**2
        found[own[near]] = row[near]
    lost = np.flatnonzero(found < 0)
    if len(lost):
        found[lost] = _search(xyz, quantum, known, missing[lost])[0]
    return missing, found


def _search(xyz: np.ndarray, quantum: float, rows: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    origin = xyz[queries[0]].astype(np.int64)
    index, squared = nearest(((xyz[rows] - origin) * quantum).astype(np.float32),
                             ((xyz[queries] - origin) * quantum).astype(np.float32), 1)
    return rows[index[:, 0]], squared[:, 0]
