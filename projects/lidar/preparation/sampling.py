"""Farthest-point order: every prefix of a patch covers it evenly, so that a network's levels are prefixes."""

import fpsample
import numpy as np


def farthest_point_order(local: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Return an order of all points: the first ``min(n, count)`` by farthest-point sampling, the others shuffled.

    Args:
        local: Coordinates in metres near the origin ``(n, 3)`` float32.
        count: Points to sample.
        seed: Of the shuffle.

    Returns:
        ``(n,)`` uint32. The first point is the one nearest to the centroid (of equals, the first).
    """
    n = len(local)
    count = min(n, count)
    if not count or n < 2:
        return np.arange(n, dtype=np.uint32)
    local = np.ascontiguousarray(local, np.float32)
    away = local - local.mean(0, dtype=np.float64)
    start = int(np.argmin(np.einsum('ij,ij->i', away, away)))
    height = min(7, n.bit_length() - 1)  # of the tree: it wants at least 2**h points
    head = fpsample.bucket_fps_kdline_sampling(local, count, h=height, start_idx=start)
    # Once only duplicates of chosen points are left, the sampler repeats itself: they come with the rest.
    repeated = np.setdiff1d(np.arange(count), np.unique(head, return_index=True)[1])
    head = head[:repeated[0]] if len(repeated) else head
    rest = np.ones(n, bool)
    rest[head] = False
    rest = np.flatnonzero(rest).astype(np.uint32)
    np.random.default_rng(seed).shuffle(rest)
    return np.concatenate([head.astype(np.uint32), rest])
