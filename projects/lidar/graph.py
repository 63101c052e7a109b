"""The neighbour lists that the networks read, made in the data loader: no torch, no search inside a model.

A patch's points lie in farthest-point order, so every level of the encoder is a prefix of the one before: level l is
the first ``ceil(n / 4**l)`` points. That holds for the patch's own n points and for the rows N that it is padded to,
so what batch a patch comes in changes neither its levels nor its neighbours.
"""

from collections.abc import Sequence

import numpy as np

try:
    from pgeof import knn_search as _pgeof_search
except ImportError:  # seven times slower
    _pgeof_search = None

LEVELS = 5
FACTOR = 4  # points of a level to one of the next
NEAR_LEVELS = (1, 2, 3, 4)  # where HybridPointNet has local blocks; RandLAPointNet: (0, 1, 2, 3)


def level_sizes(count: int, levels: int = LEVELS) -> tuple[int, ...]:
    """Return the rows of every level, ``ceil(count / 4**l)``: 24576, 6144, 1536, 384, 96 of 24,576."""
    return tuple(-(-count // FACTOR**level) for level in range(levels))


def build_graph(points: np.ndarray, valid: int | None = None, levels: int | Sequence[int] = LEVELS, down: int = 32,
                near: int = 16, up: int = 3, near_levels: Sequence[int] = NEAR_LEVELS) -> dict[str, list[np.ndarray]]:
    """Find the neighbours of a patch's points on and between the levels.

    Lists are sorted by distance. Where a level has fewer points than are asked for, the nearest is repeated. Rows of
    padding point at row 0; no list of a valid row names a row of padding.

    Args:
        points: Positions (N, 3) in metres in farthest-point order, relative to the patch; rows from ``valid`` on are
            padding.
        valid: Number of points, 1..N; default N.
        levels: Their number, or their sizes as of :func:`level_sizes` of N.
        down: Neighbours on level l of a point of level l + 1.
        near: Neighbours (the point itself among them) on its own level.
        up: Neighbours on level l + 1 of a point of level l.
        near_levels: Levels that want ``near``; the list of another level has no columns.

    Returns:
        int32 arrays by level: ``down[l]`` (N_{l+1}, down) and ``up[l]`` (N_l, up), one less than levels, and
        ``near[l]`` (N_l, near) or (N_l, 0), as many as levels.

    Raises:
        ValueError: ``valid`` is not 1..N, or the sizes are not those of N.
    """
    rows = len(points)
    valid = rows if valid is None else int(valid)
    if not 1 <= valid <= rows:
        raise ValueError(f'build_graph: valid: expected 1 to {rows}, found {valid}')
    sizes = level_sizes(rows, levels if isinstance(levels, int) else len(levels))
    if not isinstance(levels, int) and tuple(levels) != sizes:
        raise ValueError(f'build_graph: levels: expected {sizes} for {rows} rows, found {tuple(levels)}')
    points = np.ascontiguousarray(points[:valid], np.float32)
    counts = level_sizes(valid, len(sizes))
    graph: dict[str, list[np.ndarray]] = {'down': [], 'near': [], 'up': []}
    for level, (size, count) in enumerate(zip(sizes, counts)):
        here, wants_near = points[:count], level in near_levels
        done = 0  # rows of near that down holds already
        if level + 1 < len(sizes):
            coarse = points[:counts[level + 1]]
            index = _nearest(here, coarse, max(down, near) if wants_near else down)
            graph['down'].append(_padded(index[:, :down], sizes[level + 1]))
            graph['up'].append(_padded(_nearest(coarse, here, up), size))
            done = len(coarse) if wants_near else 0
        if not wants_near:
            graph['near'].append(np.zeros((size, 0), np.int32))
            continue
        parts = [index[:, :near]] if done else []
        if done < count:
            parts.append(_nearest(here, here[done:], near))
        graph['near'].append(_padded(np.concatenate(parts), size))
    return graph


def _nearest(data: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of ``data`` (n, 3) nearest to every query, (q, k) int32, nearest first, the first repeated."""
    found = min(k, len(data))
    if _pgeof_search is not None:
        index = _pgeof_search(data, np.ascontiguousarray(queries), found)[0]
    else:
        from scipy.spatial import cKDTree
        index = cKDTree(data).query(queries, np.arange(1, found + 1))[1]
    index = index.reshape(len(queries), found).astype(np.int32)
    if found < k:
        index = np.concatenate((index, np.repeat(index[:, :1], k - found, axis=1)), axis=1)
    return index


def _padded(index: np.ndarray, rows: int) -> np.ndarray:
    if len(index) == rows:
        return np.ascontiguousarray(index)
    padded = np.zeros((rows, index.shape[1]), np.int32)
    padded[:len(index)] = index
    return padded
