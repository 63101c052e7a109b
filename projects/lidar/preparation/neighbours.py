"""Exact nearest neighbours with one answer: ties at the last distance go to the lower rank."""

import numpy as np
import pgeof


def k_nearest(points: np.ndarray, k: int, queries: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` nearest points of each query, the query itself among them where it is a point.

    Args:
        points: In canonical order ``(m, 3)`` float32; whole numbers make the distances, and so the ties, exact.
        k: Number of neighbours.
        queries: Coordinates ``(q, 3)`` float32; default: the points themselves.

    Returns:
        Rows of ``points`` ``(q, min(k, m))`` uint32 and squared distances, nearest first. Which points these are
        depends on the coordinates alone.
    """
    queries = points if queries is None else queries
    m = len(points)
    k = min(k, m)
    if not len(queries) or not k:
        return np.zeros((len(queries), k), np.uint32), np.zeros((len(queries), k), np.float32)
    index, distance = pgeof.knn_search(points, queries, min(k + 1, m))
    if k < m:
        _settle_ties(points, queries, k, index, distance)
    return index[:, :k], distance[:, :k]


def _settle_ties(points: np.ndarray, queries: np.ndarray, k: int, index: np.ndarray, distance: np.ndarray) -> None:
    tied = np.flatnonzero(distance[:, k] == distance[:, k - 1])
    more = k + 1
    while len(tied):
        more = min(2 * more, len(points))
        found, far = pgeof.knn_search(points, queries[tied], more)
        seen = far[:, -1] > far[:, k - 1] if more < len(points) else np.ones(len(tied), bool)
        done = tied[seen]
        # Squares are not negative: their bits order them as whole numbers do. Distance first, then rank.
        keys = far[seen].view(np.uint32).astype(np.uint64) << np.uint64(32) | found[seen]
        keys = np.sort(keys, axis=1)[:, :k]
        index[done, :k] = keys & np.uint64(0xffffffff)
        distance[done, :k] = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)
        tied = tied[~seen]
