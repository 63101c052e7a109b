"""Height above the local ground, without a seam between tiles.

Ground points are averaged in squares of 1 m on absolute multiples. At the corners of these squares a plane is fitted to
the nearest of them, to more of them and less steep where the ground is hidden (under buildings); in between it is
interpolated. A height depends on the nearest ground alone, so tiles with a buffer agree where that lies inside it.
"""

import numpy as np

from projects.lidar.preparation.cells import UNIT
from projects.lidar.preparation.neighbours import k_nearest

SQUARE = 1.0  # metres
CENTIMETRE = 0.01  # places of squares are whole numbers of it: exact in float32, like those of cells
NEAR, FAR = 12, 96  # squares in a fit where the ground is seen, and where it is hidden
HIDDEN = 1.5  # metres to the nearest square with ground
LEVEL = .01  # of the squared mean distance: pulls a slope to zero that few or one-sided squares hardly determine
_CHUNK = 8192
WINDOWS = (3, 7, 15, 31)  # squares: what an opening of this width removes is no ground
REACH = SQUARE * (sum(window - 1 for window in WINDOWS) + 2)  # metres: what is ground depends on points so far away
RISE, SLOPE = 0.3, 0.3  # metres above the opened surface that ground may be, and per metre of the half window


def height_above_ground(xyz: np.ndarray, ground: np.ndarray | None, own: np.ndarray) -> np.ndarray:
    """Return the heights of own points above the local ground, in metres, ``(n,)`` float32, in their order.

    Args:
        xyz: Points of the tile and its buffer, ``(M, 3)`` float64.
        ground: Which are ground ``(M,)`` bool. None, or no own point: taken from the cloud (:func:`find_ground`); a
            classified neighbour's ground in the buffer says nothing of the rest of the tile.
        own: Which points are the tile's ``(M,)`` bool.
    """
    return known_heights(xyz, ground, own)[0]


def known_heights(xyz: np.ndarray, ground: np.ndarray | None, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return :func:`height_above_ground` and whether all the ground it rests on lies inside the box of the points.

    Where it does not, ground that nobody gave might have been nearer. Ground taken from the cloud counts where points
    that nobody gave could not have changed it.
    """
    if not own.any():
        return np.zeros(0, np.float32), np.zeros(0, bool)
    margin = 0.0
    if ground is None or not ground[own].any():
        ground, margin = find_ground(xyz), REACH
        ground |= not ground.any()
    # The origin, in the middle, is a corner of squares: that of a shifted cloud is shifted as much.
    origin = np.floor((xyz[:, :2].min(0) + xyz[:, :2].max(0)) / 2 / SQUARE) * SQUARE
    flat = np.rint((xyz[:, :2] - origin) / UNIT).astype(np.int64)  # the same place may differ in its last bits
    squares = _squares(flat[ground], xyz[ground, 2])
    (x, y), z = flat[own].T * UNIT, xyz[own, 2]
    column, row = np.floor(x / SQUARE), np.floor(y / SQUARE)
    left, low = column.min(), row.min()
    shape = int(column.max() - left) + 2, int(row.max() - low) + 2  # of corners
    corner = ((column - left) * shape[1] + row - low).astype(np.int64)  # lower left
    used = np.zeros(shape[0] * shape[1], bool)
    four = (0, 1, shape[1], shape[1] + 1)
    for step in four:
        used[corner + step] = True
    numbers = np.flatnonzero(used)
    places = np.stack([(numbers // shape[1] + left) * SQUARE, (numbers % shape[1] + low) * SQUARE], 1)
    surface, is_known = np.zeros(len(used)), np.zeros(len(used), bool)
    box = np.concatenate([flat.min(0) * UNIT + margin, flat.max(0) * UNIT - margin])
    surface[numbers], is_known[numbers] = _fit(squares, places, box)
    u, v = x / SQUARE - column, y / SQUARE - row
    weights = ((1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v)
    level = sum(weight * surface[corner + step] for step, weight in zip(four, weights))
    return (z - level).astype(np.float32), np.logical_and.reduce([is_known[corner + step] for step in four])


def _squares(flat: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the mean places of ground points by square ``(s, 3)``, in the order of the squares, x and y to 1 cm.

    Args:
        flat: x and y in 0.1 mm ``(g, 2)`` int64.
        z: In metres ``(g,)``.
    """
    number = flat // round(SQUARE / UNIT)
    number -= number.min(0)
    key = number[:, 0] * (number[:, 1].max() + 1) + number[:, 1]
    order = np.argsort(key, kind='stable')
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    count = np.diff(starts, append=len(key))
    # Whole numbers: the mean of the same points is the same from any origin.
    sums = np.add.reduceat(flat[order], starts)
    step = round(CENTIMETRE / UNIT) * count[:, None]
    centimetres = (2 * sums + step) // (2 * step)
    return np.column_stack([centimetres * CENTIMETRE, np.add.reduceat(z[order], starts) / count])


def _fit(squares: np.ndarray, places: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ground's z at places ``(q, 2)``, and whether no nearer square can lie outside ``box``."""
    points = np.zeros((len(squares), 3), np.float32)
    points[:, :2] = np.rint(squares[:, :2] / CENTIMETRE)
    queries = np.zeros((len(places), 3), np.float32)
    queries[:, :2] = np.rint(places / CENTIMETRE)
    z, is_known = np.zeros(len(places)), np.zeros(len(places), bool)
    hidden = k_nearest(points, 1, queries)[1][:, 0] > (HIDDEN / CENTIMETRE) ** 2
    border = np.minimum(places - box[:2], box[2:] - places).min(1)
    for rows, k in ((np.flatnonzero(~hidden), NEAR), (np.flatnonzero(hidden), FAR)):
        for start in range(0, len(rows), _CHUNK):
            part = rows[start:start + _CHUNK]
            index, squared = k_nearest(points, k, queries[part])
            index = np.sort(index, axis=1)
            z[part] = _planes(squares[index] - np.pad(places[part], ((0, 0), (0, 1)))[:, None])
            is_known[part] = (np.sqrt(squared[:, -1]) * CENTIMETRE + 2 * SQUARE < border[part]) & (index.shape[1] == k)
    return z, is_known


def _planes(away: np.ndarray) -> np.ndarray:
    """Return z at the origin of weighted least-squares planes through ``(q, k, 3)``."""
    squared = away[:, :, 0] ** 2 + away[:, :, 1] ** 2
    weight = 1 / (squared + SQUARE ** 2) ** 2
    weight /= weight.sum(1, keepdims=True)
    mean = np.einsum('qk,qki->qi', weight, away)
    away = away - mean[:, None]
    xx, xy, yy, xz, yz = (np.einsum('qk,qk,qk->q', weight, away[:, :, a], away[:, :, b])
                          for a, b in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2)))
    pull = LEVEL * (weight * squared).sum(1)
    xx, yy = xx + pull, yy + pull
    determinant = xx * yy - xy * xy
    slope_x, slope_y = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
    return mean[:, 2] - slope_x * mean[:, 0] - slope_y * mean[:, 1]


def find_ground(xyz: np.ndarray) -> np.ndarray:
    """Return which points of an unclassified cloud are ground ``(M,)`` bool: the lowest, less what openings remove.

    A progressive morphological filter (Zhang et al., IEEE TGRS 41:872, 2003) on the lowest points of squares of 1 m,
    with windows up to 31 m: wider buildings stay ground, and so does what is closer to a tile's end than half of one.
    """
    from scipy.ndimage import grey_opening, minimum_filter  # 0.1 s that classified clouds need not wait for
    # As above: two files may differ in the last bits of a place, and thresholds are whole centimetres as places are.
    number = np.rint(xyz[:, :2] / UNIT).astype(np.int64) // round(SQUARE / UNIT)
    z = np.rint(xyz[:, 2] / UNIT) * UNIT
    number -= number.min(0, initial=number.max(initial=0))
    shape = tuple(number.max(0, initial=0) + 1)
    key = np.ravel_multi_index(tuple(number.T), shape)
    lowest = np.full(shape, np.inf)
    np.minimum.at(lowest.ravel(), key, z)
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    around = minimum_filter(lowest, footprint=ring, mode='nearest')
    pits = (lowest < around - 1) & np.isfinite(around)  # one lonely square a metre below all others: a stray echo
    surface = np.where(pits | np.isinf(lowest), around, lowest)
    high = np.nanmax(np.where(np.isfinite(surface), surface, np.nan), initial=0)
    surface = np.where(np.isfinite(surface), surface, high)  # holes never lower what an opening finds
    kept = ~pits
    for window in WINDOWS:
        opened = grey_opening(surface, size=(window, window), mode='nearest')
        kept &= surface - opened <= RISE + SLOPE * SQUARE * (window - 1) / 2
        surface = opened
    return kept.ravel()[key] & (z - lowest.ravel()[key] <= RISE)
