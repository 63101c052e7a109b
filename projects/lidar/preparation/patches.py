"""Patches are cut inside blocks: squares a stride apart, the last row and column anchored inside, so no slivers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from projects.lidar.preparation.blocks import TOLERANCE, BlockGrid

# (xyz (n, 3) float32 in metres around the patch, how many points the head has, seed) -> order (n,): the head first
Order = Callable[[np.ndarray, int, int], np.ndarray]


@dataclass(frozen=True)
class PatchLists:
    """The patches of one tile at one scale, as the store keeps them, and how many were left out."""

    index: np.ndarray   # (T,) uint32
    offset: np.ndarray  # (P + 1,) int64
    box: np.ndarray     # (P, 4) float64
    block: np.ndarray   # (P,) uint16
    left_out: int


def starts(side: float, size: float, overlap: float) -> np.ndarray:
    """Return where patches begin along a block's side, in metres from its begin, ``(n,)``.

    ``n = ceil((side - size) / stride) + 1`` with ``stride = size * (1 - overlap)``; one where the block is not larger.
    """
    if side <= size * (1 + TOLERANCE):
        return np.zeros(1)
    stride = size * (1 - overlap)
    count = int(np.ceil((side - size) / stride - 1e-6)) + 1
    return np.minimum(np.arange(count) * stride, side - size)


def patch_boxes(block: np.ndarray, size: float, overlap: float) -> np.ndarray:
    """Return the boxes of a block's patches ``(n, 4)`` float64, row by row; a small block is one patch."""
    x0, y0, x1, y1 = block
    sides = [(side if side <= size * (1 + TOLERANCE) else size) for side in (x1 - x0, y1 - y0)]
    x = x0 + starts(x1 - x0, size, overlap)
    y = y0 + starts(y1 - y0, size, overlap)
    low = np.stack([np.tile(x, len(y)), np.repeat(y, len(x))], axis=1)
    return np.concatenate([low, np.minimum(low + sides, (x1, y1))], axis=1)


def patch_count(grid: BlockGrid, size: float, overlap: float) -> int:
    """Return how many patches a tile gives before any is left out."""
    return sum(len(starts(x1 - x0, size, overlap)) * len(starts(y1 - y0, size, overlap))
               for x0, y0, x1, y1 in grid.boxes())


def rows_of_patches(xy: np.ndarray, blocks: np.ndarray, grid: BlockGrid, size: float,
                    overlap: float) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield block, box ``(4,)`` and the positions in ``xy`` of every patch's points, empty patches too.

    Args:
        xy: ``(n, 2)`` float64, absolute.
        blocks: ``(n,)`` the block of every point.
        grid: The tile's blocks.
        size: Of a patch, metres.
        overlap: Share of it.
    """
    order = np.argsort(blocks, kind='stable')
    ends = np.searchsorted(blocks[order], np.arange(len(grid) + 1))
    for number, block in enumerate(grid.boxes()):
        inside = order[ends[number]:ends[number + 1]]
        boxes = patch_boxes(block, size, overlap)
        if len(boxes) == 1:
            yield number, boxes[0], inside
            continue
        points = xy[inside]
        strip_of, strip = None, inside
        for box in boxes:
            if strip_of != (box[1], box[3]):  # boxes come row by row: look for the row once
                chosen = _within(points[:, 1], box[1], box[3], block[3])
                strip_of, strip, across = (box[1], box[3]), inside[chosen], points[chosen, 0]
            yield number, box, strip[_within(across, box[0], box[2], block[2])]


def cut_patches(xyz: np.ndarray, keep: np.ndarray, blocks: np.ndarray, grid: BlockGrid, *, size: float, overlap: float,
                points: int, min_points: int, order: Order, seed: int = 0) -> PatchLists:
    """Cut one scale.

    Args:
        xyz: ``(N, 3)`` float64 absolute, the rows of the store.
        keep: ``(N,)`` bool: rows that patches may list (no outliers).
        blocks: ``(N,)`` the block of every point.
        grid: The tile's blocks.
        size: Of a patch, metres.
        overlap: Share of it.
        points: How many rows at the head of each list are in farthest-point order.
        min_points: Patches with fewer points are left out and counted.
        order: Puts a patch's points in order.
        seed: Of the shuffle behind the head; a patch's own number is added.
    """
    candidates = np.flatnonzero(keep)
    lists, boxes, owners, left_out = [], [], [], 0
    for number, (block, box, at) in enumerate(rows_of_patches(xyz[candidates, :2], blocks[candidates], grid, size,
                                                              overlap)):
        if len(at) < max(min_points, 1):
            left_out += 1
            continue
        rows = candidates[at]
        here = xyz[rows]
        local = (here - [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, here[:, 2].mean()]).astype(np.float32)
        lists.append(rows[order(local, points, seed + number)].astype(np.uint32))
        boxes.append(box)
        owners.append(block)
    return PatchLists(
        index=np.concatenate(lists) if lists else np.zeros(0, np.uint32),
        offset=np.cumsum([0, *(len(rows) for rows in lists)]).astype(np.int64),
        box=np.array(boxes, np.float64).reshape(-1, 4), block=np.array(owners, np.uint16), left_out=left_out)


def _within(values: np.ndarray, low: float, high: float, end: float) -> np.ndarray:
    """Half-open, but for the end of the block: points may lie on the border of the tile."""
    return (values >= low) & ((values < high) if high < end - 1e-9 else True)
