"""The points around a tile, from its neighbours' files, each of which a worker reads as seldom as it can."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from projects.engine.errors import UserError, told
from projects.geo.point_clouds import CHANNELS, PointHeader, Points, read_points
from projects.geo.point_tiles import TileIndex, share_ground

CAPACITY = 3_000_000  # points of borders that a worker keeps: 72 MB, and their dimensions
SLACK = 2.0  # metres: boxes of neighbours may leave a gap, or share up to a metre


class BorderCache:
    """Borders of the tiles that were read last; what it holds changes no result.

    Args:
        capacity: Points at most; the border used last is always kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[tuple, Points] = OrderedDict()

    def get(self, header: PointHeader, width: float, names: Iterable[str]) -> Points:
        """Return the points within ``width`` metres (and some more) of the sides of a tile's box."""
        key = _key(header, width, names)
        if key not in self._kept:
            self.keep(header, width, names, _read(header, names))
        self._kept.move_to_end(key)
        return self._kept[key]

    def keep(self, header: PointHeader, width: float, names: Iterable[str], points: Points) -> None:
        """Keep the border of a tile of which all points are given, with the named dimensions that they have."""
        rows = np.flatnonzero(_near_sides(points.xyz, header, width + SLACK))
        fields = {name: points.fields[name] for name in names if name in points.fields}
        self._kept[_key(header, width, names)] = replace(points, fields=fields).take(rows)
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > self.capacity:
            self._kept.popitem(last=False)


def read_buffer(index: TileIndex, header: PointHeader, width: float, fields: Mapping[str, np.generic],
                cache: BorderCache | None = None
                ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, str]]:
    """Return the points of neighbouring tiles within ``width`` metres of a tile's box, along x and along y.

    Points inside the box are left out, its border included, where two tiles share ground: the tile's own count.
    A neighbour that cannot be read, or has points off its header's box, is left out and told: its damage is no fault of
    this tile.

    Args:
        index: All tiles of the run.
        header: The tile.
        width: Metres; 0 for none.
        fields: Dimension to what the points of a neighbour without it get; a numpy scalar, whose type all values take.
        cache: Of borders; None to read every time.

    Returns:
        ``(n, 3)`` float64 absolute, in the order of the neighbours; dimension to ``(n,)`` values; file name
        of each neighbour that could not be read to what was wrong.
    """
    x0, y0, _, x1, y1, _ = header.bounds
    box = (x0 - width, y0 - width, x1 + width, y1 + width)
    parts, unread = [], {}
    for other in index.neighbours(header, width) if width > 0 else ():
        # The border of a tile that reaches far into this one may lie elsewhere than around this one.
        apart = not share_ground(header, other)
        try:
            part = cache.get(other, width, fields) if cache is not None and apart else _read(other, fields)
            _check(part, other)
        except (UserError, OSError) as error:
            unread[other.path.name] = getattr(error, 'strerror', None) or told(error).removeprefix(f'{other.path}: ')
            continue
        x, y = part.xyz[:, 0], part.xyz[:, 1]
        near = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
        if not apart:
            near &= (x < x0) | (x > x1) | (y < y0) | (y > y1)
        parts.append(part.take(near))
    return np.concatenate([np.zeros((0, 3)), *(part.xyz for part in parts)]), {
        name: np.concatenate([np.zeros(0, missing.dtype), *(
            part.fields[name].astype(missing.dtype, copy=False) if name in part.fields
            else np.full(len(part), missing) for part in parts)]) for name, missing in fields.items()}, unread


def _read(header: PointHeader, names: Iterable[str]) -> Points:
    return read_points(header.path, [name for name in names if name in header.dimensions or name in CHANNELS])


def _check(points: Points, header: PointHeader) -> None:
    """Refuse points off the box of their header: LAZ has no checksums, and most damage decodes to places far away."""
    x0, y0, _, x1, y1, _ = header.bounds
    x, y = points.xyz[:, 0], points.xyz[:, 1]
    off = (x < x0 - SLACK) | (x > x1 + SLACK) | (y < y0 - SLACK) | (y > y1 + SLACK)
    if off.any():
        raise UserError(f'{header.path}: expected points inside the box of its header, '
                        f'found {np.count_nonzero(off):,} outside: is it damaged?')


def _key(header: PointHeader, width: float, names: Iterable[str]) -> tuple:
    status = header.path.stat()
    return str(header.path.resolve()), status.st_mtime_ns, status.st_size, width, tuple(names)


def _near_sides(xyz: np.ndarray, header: PointHeader, margin: float) -> np.ndarray:
    x0, y0, _, x1, y1, _ = header.bounds
    x, y = xyz[:, 0], xyz[:, 1]
    return (x < x0 + margin) | (x > x1 - margin) | (y < y0 + margin) | (y > y1 - margin)
