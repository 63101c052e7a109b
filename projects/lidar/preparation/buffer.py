"""The points around a tile, from its neighbours' files, each of which a worker reads as seldom as it can."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from projects.geo.point_clouds import PointHeader, Points, read_points
from projects.geo.point_tiles import TileIndex

CAPACITY = 3_000_000  # points of borders that a worker keeps: about 80 MB


@dataclass(frozen=True)
class Border:
    """What other tiles need to know of a tile: places, codes, and LOD3 labels where it has them."""

    xyz: np.ndarray
    codes: np.ndarray
    lod3: np.ndarray | None

    def take(self, rows: np.ndarray) -> 'Border':
        return Border(self.xyz[rows], self.codes[rows], None if self.lod3 is None else self.lod3[rows])


class BorderCache:
    """Borders of the tiles that were read last; what it holds changes no result."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[tuple, Border] = OrderedDict()

    def get(self, header: PointHeader, width: float) -> Border:
        """Return the points within ``width`` metres of the sides of a tile's box."""
        key = _key(header, width)
        if key not in self._kept:
            self.keep(header, width, border_points(header, None))
        self._kept.move_to_end(key)
        return self._kept[key]

    def keep(self, header: PointHeader, width: float, points: Border) -> None:
        """Keep the border of a tile of which all points are given."""
        key = _key(header, width)
        self._kept[key] = points.take(_near_sides(points.xyz, header, width))
        while len(self._kept) > 1 and sum(len(border.xyz) for border in self._kept.values()) > self.capacity:
            self._kept.popitem(last=False)


# One a process. Workers get their tasks one by one and have no other place for what they keep between them.
CACHE = BorderCache()


def border_points(header: PointHeader, bounds: tuple[float, float, float, float] | None) -> Border:
    """Read what :class:`Border` holds, of the whole tile or of a box."""
    names = ['classification', *(['lod3'] if 'lod3' in header.dimensions else [])]
    return border_of(read_points(header.path, names, bounds))


def border_of(points: Points) -> Border:
    """Return the same of points that are read already."""
    return Border(points.xyz, points.fields['classification'], points.fields.get('lod3'))


def read_buffer(index: TileIndex, header: PointHeader, width: float, cache: BorderCache | None) -> Border:
    """Return the points of neighbouring tiles within ``width`` metres of a tile's box, along x and along y.

    Points inside the box are left out, its border included: where two tiles share ground, the tile's own count.

    Args:
        index: All tiles of the run.
        header: The tile.
        width: Metres.
        cache: Of borders; None to read every time.
    """
    x0, y0, _, x1, y1, _ = header.bounds
    parts = []
    for other in index.neighbours(header, width) if width > 0 else ():
        box = (x0 - width, y0 - width, x1 + width, y1 + width)
        # The border of a tile that reaches far into this one may lie elsewhere than around this one.
        apart = not _overlap(header, other)
        part = cache.get(other, width) if cache is not None and apart else border_points(other, box)
        x, y = part.xyz[:, 0], part.xyz[:, 1]
        near = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
        if not apart:
            near &= (x < x0) | (x > x1) | (y < y0) | (y > y1)
        parts.append(part.take(near))
    if not parts:
        return Border(np.zeros((0, 3)), np.zeros(0, np.uint8), None)
    has_lod3 = any(part.lod3 is not None for part in parts)
    return Border(
        np.concatenate([part.xyz for part in parts]), np.concatenate([part.codes for part in parts]),
        np.concatenate([np.full(len(part.xyz), 255, np.uint8) if part.lod3 is None else part.lod3
                        for part in parts]) if has_lod3 else None)


def _key(header: PointHeader, width: float) -> tuple:
    status = header.path.stat()
    return str(header.path.resolve()), status.st_mtime_ns, status.st_size, width


def _near_sides(xyz: np.ndarray, header: PointHeader, width: float) -> np.ndarray:
    x0, y0, _, x1, y1, _ = header.bounds
    x, y = xyz[:, 0], xyz[:, 1]
    margin = width + 2.0  # boxes of neighbours may leave a gap, or share up to a metre
    return (x < x0 + margin) | (x > x1 - margin) | (y < y0 + margin) | (y > y1 - margin)


def _overlap(one: PointHeader, other: PointHeader) -> bool:
    a, b = one.bounds, other.bounds
    return min(a[3], b[3]) - max(a[0], b[0]) > 1.0 and min(a[4], b[4]) - max(a[1], b[1]) > 1.0
