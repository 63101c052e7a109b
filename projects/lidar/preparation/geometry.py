"""What a neighbourhood looks like: shares of its eigenvalues, its normal, its density.

With eigenvalues l1 >= l2 >= l3 of the covariance of the k nearest points (specs/lidar.md, Patches): linearity
(l1 - l2) / l1, planarity (l2 - l3) / l1, sphericity l3 / l1, anisotropy (l1 - l3) / l1, curvature l3 / (l1 + l2 + l3),
verticality 1 - \\|n_z\\|, and the normal, turned upwards.
"""

import numpy as np

GEOMETRY = ('linearity', 'planarity', 'sphericity', 'anisotropy', 'curvature', 'verticality',
            'normal_x', 'normal_y', 'normal_z')
DISTINCT = 4  # fewer different places have no shape
_CHUNK = 8192  # queries at once: their neighbours fit into the cache


def eigen_features(points: np.ndarray, index: np.ndarray, queries: np.ndarray | None = None) -> np.ndarray:
    """Return the features of neighbourhoods, ``(q, 9)`` float32 in the order of :data:`GEOMETRY`.

    Args:
        points: Coordinates ``(m, 3)`` float32. The result is exact to the last bit whatever the origin when they are
            whole numbers: only differences to the query enter.
        index: Rows of the neighbours ``(q, k)``; their order does not matter.
        queries: Where the neighbourhoods are ``(q, 3)``; default: the points themselves.

    A neighbourhood with fewer than :data:`DISTINCT` different places has only zeros.
    """
    queries = points if queries is None else queries
    result = np.zeros((len(index), len(GEOMETRY)), np.float32)
    if index.shape[1] < DISTINCT:
        return result
    columns = np.ascontiguousarray(points.T)
    for start in range(0, len(index), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = np.sort(index[part], axis=1)  # one order of summing, whatever order the search found them in
        away = [axis[rows] - query[:, None] for axis, query in zip(columns, queries[part].T)]
        result[part] = shapes(covariance(away))
        result[part][few_places(away)] = 0
    return result


def covariance(away: list[np.ndarray]) -> np.ndarray:
    """Return xx, xy, xz, yy, yz, zz of coordinates ``3 x (q, k)`` float32 about their mean: ``(6, q)`` float64."""
    centred = [axis - axis.mean(1, keepdims=True) for axis in away]
    x, y, z = centred
    k = x.shape[1]
    return np.stack([np.einsum('ij,ij->i', a, b) for a, b in ((x, x), (x, y), (x, z), (y, y), (y, z), (z, z))]
                    ).astype(np.float64) / k


def few_places(away: list[np.ndarray]) -> np.ndarray:
    """Return which rows have fewer than :data:`DISTINCT` different places ``(q,)`` bool."""
    seen = np.zeros(len(away[0]), bool)
    # Enough differing from one another, cheaply: most rows have four different sums of coordinates near the front.
    code = away[0] * np.float32(3) + away[1] * np.float32(5) + away[2] * np.float32(7)
    quick = np.sort(code[:, :8], axis=1)
    doubtful = np.flatnonzero((np.diff(quick, axis=1) != 0).sum(1) < DISTINCT - 1)
    for row in doubtful:
        places = np.unique(np.stack([axis[row] for axis in away], 1), axis=0)
        seen[row] = len(places) < DISTINCT
    return seen


def eigenvalues(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return l1 >= l2 >= l3 >= 0 of symmetric matrices ``(6, q)``, in closed form (Smith, CACM 4:168, 1961)."""
    xx, xy, xz, yy, yz, zz = moments
    mean = (xx + yy + zz) / 3
    a, b, c = xx - mean, yy - mean, zz - mean
    spread = np.sqrt((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6)
    determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    with np.errstate(divide='ignore', invalid='ignore'):
        cosine = np.nan_to_num(determinant / (2 * spread ** 3))
    angle = np.arccos(np.clip(cosine, -1, 1)) / 3
    first = mean + 2 * spread * np.cos(angle)
    third = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    third = np.clip(third, 0, mean)
    return first, np.clip(3 * mean - first - third, third, first), third


def normals(moments: np.ndarray, first: np.ndarray, third: np.ndarray) -> np.ndarray:
    """Return the unit eigenvectors of the smallest eigenvalue with z >= 0, ``(3, q)`` float64.

    Where the two smaller eigenvalues are equal (a line), the most upright of all normals of the line.
    """
    xx, xy, xz, yy, yz, zz = moments
    best, size = _largest_cross(xx - third, xy, xz, yy - third, yz, zz - third)
    flat = size <= 1e-12 * first ** 4
    if flat.any():
        xx, xy, xz, yy, yz, zz = moments[:, flat]
        rows = np.stack([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) - third[flat] * np.eye(3)[:, :, None]
        longest = np.argmax((rows ** 2).sum(1), axis=0)
        along = rows[longest, :, np.arange(len(longest))].T
        length = np.sqrt((along ** 2).sum(0))
        along = np.where(length > 0, along / np.where(length > 0, length, 1), np.array([[1.0], [0], [0]]))
        upright = np.array([[0.0], [0], [1]]) - along[2] * along
        upright[0] += np.where(np.abs(along[2]) > 1 - 1e-12, 1.0, 0)  # an upright line: its normal is x
        best[:, flat] = upright
        size[flat] = (upright ** 2).sum(0)
    best /= np.sqrt(size)
    # Upwards; a level normal towards +x, then +y.
    x, y, z = best
    down = (z < 0) | ((z == 0) & ((x < 0) | ((x == 0) & (y < 0))))
    best[:, down] *= -1
    return best


def _largest_cross(xx: np.ndarray, xy: np.ndarray, xz: np.ndarray, yy: np.ndarray, yz: np.ndarray,
                   zz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the longest of the cross products of two rows, ``(3, q)``, and its squared length ``(q,)``."""
    best = np.stack([xy * yz - xz * yy, xz * xy - xx * yz, xx * yy - xy * xy])
    size = np.einsum('ij,ij->j', best, best)
    for other in (np.stack([xy * zz - xz * yz, xz * xz - xx * zz, xx * yz - xy * xz]),
                  np.stack([yy * zz - yz * yz, yz * xz - xy * zz, xy * yz - yy * xz])):
        length = np.einsum('ij,ij->j', other, other)
        longer = length > size
        best, size = np.where(longer, other, best), np.where(longer, length, size)
    return best, size


def shapes(moments: np.ndarray) -> np.ndarray:
    """Return the features of covariances ``(6, q)``: ``(q, 9)`` float32."""
    first, second, third = eigenvalues(moments)
    normal = normals(moments, first, third)
    scale = np.where(first > 0, first, 1)
    result = np.stack([first - second, second - third, third, first - third, third, 1 - np.abs(normal[2]), *normal], 1)
    result[:, :4] /= scale[:, None]
    result[:, 4] /= np.where(first > 0, first + second + third, 1)
    result[first <= 0] = 0
    return result.astype(np.float32)


def log_density(farthest: np.ndarray, k: int) -> np.ndarray:
    """Return log(1 + points per square metre) of discs that hold ``k`` points within ``farthest`` metres ``(q,)``.

    Surfaces are what a scanner sees, so the density is that of a disc; the radius is at least 1 cm (duplicates).
    """
    return np.log1p(k / (np.pi * np.maximum(farthest, 0.01) ** 2)).astype(np.float32)
