"""What the network learns from a graph: heat maps of junctions and lines, and pairs that only look like lines.

Coordinates are (y, x) in cells with the origin at the corner of the first cell: cells = pixels / stride. A junction v
lies in cell floor(v) with offset v - floor(v) - 1/2; back: v = cell + offset + 1/2. Maps are drawn last, after every
transform of image and graph (specs/roofline.md, "Labels and data").
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from projects.engine.errors import UserError
from projects.roofline.graph import RoofGraph

OUTSIDE = 1e-3  # cells: float32 rounding of a junction on the border is no junction outside the map
REACH = np.sqrt(2.0)  # cells off a line, along the axis it is steeper to, beyond which its drawing is 0
PAIRS_AT_ONCE = 4096  # keeps the drawn cells of the candidate pairs in the processor's cache


@dataclass(frozen=True, eq=False)
class Maps:
    """Targets of one image on its h x w cells.

    Args:
        jmap: (T, h, w) float32, 1 in cells that hold a junction of each of the T types, else 0.
        joff: (T, 2, h, w) float32, (dy, dx) in -1/2 <= d < 1/2 from the centre of such a cell to its junction, else 0.
        lmap: (h, w) float32 in 0..1, the lines, antialiased.
    """

    jmap: np.ndarray
    joff: np.ndarray
    lmap: np.ndarray


def cells_of(graph: RoofGraph, stride: float | tuple[float, float]) -> np.ndarray:
    """Return the junctions in cells: (N, 2) float32, (y, x).

    Args:
        graph: In pixels of the image that the network sees.
        stride: Pixels a cell; (down, across) where they differ.
    """
    return (graph.junctions[:, ::-1] / np.asarray(stride, np.float64)).astype(np.float32)


def draw_maps(cells: np.ndarray, lines: np.ndarray, size: tuple[int, int], junction_types: np.ndarray | None = None,
              n_types: int = 1) -> Maps:
    """Draw the heat maps of a graph.

    A line is drawn by distance: a cell's value is 1 - d for the distance d from its centre to the nearest line, 0 from
    one cell on. So drawing commutes with flips and quarter turns, and with crops but for the cells at the crop's
    border. A junction on a border between cells belongs to the later one (on the map's last border: to the last cell,
    with an offset just below 1/2), so only there do flips of the junction map differ from the map of a flip. Of several
    junctions of a type in one cell, the offset is that of the nearest to the cell's centre.

    Args:
        cells: Junctions (N, 2), (y, x) in cells, within the map.
        lines: (M, 2) junctions of each line.
        size: (h, w) of the maps in cells.
        junction_types: (N,) class of each junction in 0..n_types - 1; not looked at when ``n_types`` is 1.
        n_types: T, classes of junctions that are told apart.

    Raises:
        ValueError: A junction outside the map: :meth:`RoofGraph.clipped` comes first.
        UserError: A junction of a class that is not below ``n_types``.
    """
    cells = np.asarray(cells, np.float64).reshape(-1, 2)
    lines = np.asarray(lines, np.int64).reshape(-1, 2)
    extent = np.array(size)
    if not ((cells >= -OUTSIDE) & (cells <= extent + OUTSIDE)).all():
        raise ValueError(f'draw_maps: cells: expected (y, x) within {size[0]} x {size[1]}, found a junction outside')
    kinds = np.zeros(len(cells), np.int64)
    if n_types > 1 and junction_types is not None:
        kinds = np.asarray(junction_types, np.int64)
        if len(kinds) and kinds.max() >= n_types:
            raise UserError(f'junction_types: expected classes below n_types = {n_types}, found {kinds.max()}')

    jmap = np.zeros((n_types, *size), np.float32)
    joff = np.zeros((n_types, 2, *size), np.float32)
    place = np.clip(np.floor(cells), 0, extent - 1).astype(np.int64)
    offset = np.clip(cells - place - 0.5, -0.5, np.nextafter(np.float32(0.5), np.float32(0)))
    order = np.argsort(-np.square(offset).sum(axis=1), kind='stable')  # the last one written is the nearest
    kinds, (y, x) = kinds[order], place[order].T
    jmap[kinds, y, x] = 1.0
    joff[kinds, :, y, x] = offset[order]

    lmap = np.zeros(size[0] * size[1])
    y, x, value, _ = _drawn(cells[lines], size)
    np.maximum.at(lmap, (y * size[1] + x).ravel(), value.ravel())
    return Maps(jmap, joff, lmap.reshape(size).astype(np.float32))


def hard_negatives(cells: np.ndarray, lines: np.ndarray, lmap: np.ndarray, limit: int = 2000,
                   coarseness: int = 2) -> np.ndarray:
    """Return the pairs of junctions that are no line but look like one, the most alike first.

    A pair is scored by mean(min(a, l)) over the cells of its own drawing, a its drawing as a line and l the line map,
    both on a grid ``coarseness`` times as coarse as the maps: the 64 grid for a map of 128 (L-CNN's measure:
    specs/roofline.md, "Samples"). l is the largest of the line map's cells below each.

    Args:
        cells: Junctions (N, 2), (y, x) in cells of the line map.
        lines: (M, 2) junctions of each line.
        lmap: (h, w), as :func:`draw_maps` draws it.
        limit: At most so many pairs.
        coarseness: Cells of the map to a cell of the grid.

    Returns:
        (K, 2) int64, u < v; equal scores by u, then v.
    """
    cells = np.asarray(cells, np.float32).reshape(-1, 2)
    lines = np.asarray(lines, np.int64).reshape(-1, 2)
    is_line = np.zeros((len(cells), len(cells)), bool)
    is_line[lines.min(axis=1), lines.max(axis=1)] = True
    pairs = np.argwhere(np.triu(~is_line, k=1))
    grid = _largest(np.asarray(lmap, np.float32), coarseness)
    scores = [_likeness(ends, grid) for ends in _portions((cells / np.float32(coarseness)), pairs)]
    order = np.argsort(-np.concatenate([np.zeros(0, np.float32), *scores]), kind='stable')
    return pairs[order[:limit]].astype(np.int64)


def _portions(cells: np.ndarray, pairs: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        yield cells[pairs[start:start + PAIRS_AT_ONCE]]


def _largest(lmap: np.ndarray, factor: int) -> np.ndarray:
    """Return the largest value of every factor x factor block; cells that the map lacks in the last ones are 0."""
    height, width = (-(-length // factor) for length in lmap.shape)
    padded = np.zeros((height * factor, width * factor), lmap.dtype)
    padded[:lmap.shape[0], :lmap.shape[1]] = lmap
    return padded.reshape(height, factor, width, factor).max(axis=(1, 3))


def _likeness(ends: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Score pairs with the given ends (K, 2, 2): how much of their own drawing (K,) is in the grid of lines."""
    y, x, value, counts = _drawn(ends, grid.shape)
    common = np.minimum(value, grid[y, x]).sum(axis=1)
    begins = np.cumsum(counts) - counts
    total = np.add.reduceat(common, begins)  # every line has two strides or more, so no sum is of none
    drawn = np.add.reduceat((value > 0).sum(axis=1), begins)
    return total / np.maximum(drawn, 1)


def _drawn(ends: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw lines, each for itself, into the cells near it only.

    A line is walked along the axis it is longer on, one cell a stride. A cell nearer than 1 to the line is at most
    sqrt(2) away from it along the other axis, so that three cells are looked at in each stride.

    Args:
        ends: (L, 2, 2), both ends, (y, x) in cells.
        size: (h, w).

    Returns:
        y, x (S, 3) int64 and the value (S, 3) of the cells looked at, 0 for those off the line or off the map (whose
        place is some cell of the map), stride after stride, line after line; and how many strides each line has (L,).
    """
    start, step = ends[:, 0], ends[:, 1] - ends[:, 0]
    across = np.abs(step[:, 1]) >= np.abs(step[:, 0])  # walked along x
    major = across.astype(np.int64)
    rows = np.arange(len(ends))
    from_, along = start[rows, major], step[rows, major]
    lowest = np.ceil(np.minimum(from_, from_ + along) - 1.5).astype(np.int64)
    highest = np.floor(np.maximum(from_, from_ + along) + 0.5).astype(np.int64)
    counts = highest - lowest + 1

    line = np.repeat(rows, counts)
    walked = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts) + lowest[line]  # (S,) place on major
    base, side = start[rows, 1 - major], step[rows, 1 - major]
    with np.errstate(divide='ignore', invalid='ignore'):
        slope = np.where(along == 0, 0.0, side / along).astype(ends.dtype)
        inverse = np.where(along == 0, 0.0, 1.0 / (along * along + side * side)).astype(ends.dtype)
    reached = (walked + 0.5).astype(ends.dtype) - from_[line]  # from the first end to the stride, along major
    short = np.minimum(along, 0)[line], np.maximum(along, 0)[line]
    beside = base[line] + np.clip(reached, *short) * slope[line]  # the line's place on the other axis
    first = np.ceil(beside - 0.5 - ends.dtype.type(REACH)).astype(np.int64)
    other = first[:, None] + np.arange(3)
    off = (other + 0.5).astype(ends.dtype) - base[line][:, None]  # (S, 3)
    share = np.clip((reached * along[line])[:, None] + off * side[line][:, None], 0, None) * inverse[line][:, None]
    share = np.minimum(share, 1, out=share)
    distance = np.square(reached[:, None] - share * along[line][:, None])
    distance += np.square(off - share * side[line][:, None])
    value = np.maximum(1 - np.sqrt(distance), 0)

    limits = np.where(across[line], size[1], size[0]), np.where(across[line], size[0], size[1])
    inside = ((walked >= 0) & (walked < limits[0]))[:, None] & (other >= 0) & (other < limits[1][:, None])
    value *= inside
    walked, other = np.where(inside, walked[:, None], 0), np.where(inside, other, 0)
    level = across[line][:, None]
    return np.where(level, other, walked), np.where(level, walked, other), value, counts
