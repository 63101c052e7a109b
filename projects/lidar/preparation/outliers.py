"""Outlier flags of points whose neighbours are far (SOR) or few (ROR), which spare façades and wires.

An aerial scanner sees a façade from above: its points are two or three times as far apart as those of roofs and
ground, and both filters, as they are commonly written, delete half of them. Three things are different here.

- SOR compares a point with those of its own square of 5 m, not of a whole tile, so that a flag does not depend on where
  tiles were cut. The deviation counts as at least half the mean: on even ground the farthest of many equal points is no
  outlier.
- ROR rests in squares where most points would be flagged: there the cloud is sparser than its radius.
- A flagged point that belongs to a steep or a linear neighbourhood is exempt. It belongs there when it lies on the
  plane or line of the *others*, or has one of them close by; a stray point in front of a façade does neither. "Close"
  is 0.5 m, as far as façade points lie from one another: of points nearer to a façade than that, few are found (the
  test tests/lidar/test_preparation_outliers.py counts both).
"""

import numpy as np

from projects.lidar.preparation.cells import CELL, UNIT

SOR, ROR, EXEMPT = 1, 2, 4

SQUARE = 5.0  # metres: a divisor of CELL, so that every square lies in one cell
LEAST_SPREAD = 0.5  # of the mean distance in a square
STEEP = 0.6  # |n_z| of the others is below: they stand steeper than 53 degrees
ON_SURFACE = 0.08  # metres from the plane or line of the others: scanner noise and the relief of a façade
CLOSE = 0.5  # metres to the nearest other: what façades of 10 or more points per square metre keep ...
CLOSE_SPACINGS = 1.2  # ... and mean distances in sparser clouds
LINEAR = 0.2  # second axis to first
_NEAREST, _AROUND = 8, 19  # neighbours that make the surface, and its direction


def square_of(units: np.ndarray) -> np.ndarray:
    """Return the number of each point's square ``(m,)`` int64, for points inside a cell (in units, ``(m, 3)``)."""
    per_side = int(CELL / SQUARE)
    number = np.floor((units[:, :2] * UNIT + CELL / 2) / SQUARE).astype(np.int64).clip(0, per_side - 1)
    return number[:, 0] * per_side + number[:, 1]


def outlier_flags(units: np.ndarray, index: np.ndarray, distance: np.ndarray, queries: np.ndarray, sor: dict | None,
                  ror: dict | None) -> np.ndarray:
    """Return bits :data:`SOR`, :data:`ROR` and :data:`EXEMPT` (on top of one of them) of a cell's points.

    Args:
        units: The cell's points ``(m, 3)`` float32, see :class:`projects.lidar.preparation.cells.Cell`.
        index: Neighbours of each query, nearest first, the query itself among them ``(q, k)``.
        distance: Squared, in square units ``(q, k)`` float32.
        queries: Rows of the queries ``(q,)``: all points of every square that counts.
        sor: ``k`` neighbours (without the point itself), ``std``: deviations; None: no SOR.
        ror: ``radius`` in metres, ``neighbours``: fewer within it make an outlier; None: no ROR.

    Returns:
        ``(q,)`` uint8. A filter that asks for more neighbours than there are points flags none.
    """
    flags = np.zeros(len(index), np.uint8)
    if not len(index):
        return flags
    places = units[queries]
    square = square_of(places)
    number = np.bincount(square)
    count = np.maximum(number, 1)
    spacing = None
    if sor and sor['k'] < index.shape[1]:
        spacing, threshold = _spacing(distance, square, count, sor['k'], sor['std'])
        flags[spacing[0] > threshold[square]] |= SOR
    if ror and ror['neighbours'] < index.shape[1]:
        few = distance[:, ror['neighbours']] > (ror['radius'] / UNIT) ** 2
        flags[few & (np.bincount(square, few) <= count / 2)[square]] |= ROR
    rows = np.flatnonzero(flags)
    if len(rows):
        near = CLOSE
        if spacing is not None:
            near = np.maximum(CLOSE, CLOSE_SPACINGS * spacing[1][square[rows]])
        spared = belongs(units, places[rows], index[rows], distance[rows], near)
        flags[rows[spared]] |= EXEMPT
    return flags


def _spacing(distance: np.ndarray, square: np.ndarray, count: np.ndarray, k: int,
             std: float) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return the mean distances of points, those of squares, and the thresholds of squares, in metres."""
    mean = np.sqrt(distance[:, 1:k + 1]).mean(1, dtype=np.float64) * UNIT
    of_square = np.bincount(square, mean) / count
    spread = np.sqrt(np.bincount(square, (mean - of_square[square]) ** 2) / count)
    return (mean, of_square), of_square + std * np.maximum(spread, LEAST_SPREAD * of_square)


def belongs(units: np.ndarray, places: np.ndarray, index: np.ndarray, distance: np.ndarray,
            near: np.ndarray | float) -> np.ndarray:
    """Return which points belong to a steep or linear neighbourhood ``(q,)`` bool.

    Args:
        units: The cell's points ``(m, 3)`` float32.
        places: The points in question ``(q, 3)`` float32.
        index: Their neighbours and themselves, nearest first ``(q, k)``.
        distance: Squared, in square units ``(q, k)``.
        near: Metres within which a neighbour is close ``(q,)``.
    """
    # By distance, then rank: which eight are the nearest must not depend on the order of a search.
    keys = np.sort(distance.view(np.uint32).astype(np.uint64) << np.uint64(32) | index, axis=1)[:, 1:_AROUND + 1]
    others = units[(keys & np.uint64(0xffffffff)).astype(np.int64)].astype(np.float64) * UNIT
    others -= places[:, None].astype(np.float64) * UNIT  # (q, 19, 3), the point itself is the origin
    if others.shape[1] < 3:
        return np.zeros(len(places), bool)
    closest = np.sqrt((others[:, 0] ** 2).sum(1))
    _, axes = _axes(others)
    steep = np.abs(axes[:, 2, 0]) < STEEP
    others = others[:, :_NEAREST]
    sizes, axes = _axes(others)
    centre = others.mean(1)
    off_plane = np.abs(np.einsum('qi,qi->q', centre, axes[:, :, 0]))
    off_line = np.sqrt(off_plane ** 2 + np.einsum('qi,qi->q', centre, axes[:, :, 1]) ** 2)
    linear = sizes[:, 1] < (LINEAR ** 2) * sizes[:, 2]
    on_surface = (steep & (off_plane < ON_SURFACE)) | (linear & (off_line < ON_SURFACE))
    return (steep & (closest < near)) | (on_surface & (closest < 2 * near))


def _axes(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues ``(q, 3)``, smallest first, and axes ``(q, 3, 3)`` as columns, of places ``(q, k, 3)``."""
    away = places - places.mean(1, keepdims=True)
    return np.linalg.eigh(np.einsum('qki,qkj->qij', away, away) / places.shape[1])
