"""Point-cloud tiles: their names, which are only checked, and their neighbours, by their headers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.geo.point_clouds import PointHeader, read_header

UNITS = {'kilometres': (1000.0, 1000.0), 'tens of metres': (10.0, 50.0)}  # metres a step of a name, edge of a tile
TOLERANCE = 1.0  # metres that a tile may leave the box of its name, or share with a neighbour
FIELD_WIDTHS = {(4, 4): 'kilometres', (5, 6): 'tens of metres'}


@dataclass(frozen=True)
class TileName:
    """What a name says: the box, and the ``unit`` of its numbers, 'kilometres' or 'tens of metres'."""

    box: tuple[float, float, float, float]
    unit: str


def parse_tile_name(name: str | Path) -> TileName | None:
    """Read a tile's place out of its file name, or return None where the name has none.

    ``0770_6277`` are x minimum and y *maximum* in km of a tile of 1 km (``LHD_FXX_0770_6277_PTS_…``,
    ``Semis_2021_0382_6565_…``); ``77055_627760`` are the same corner of a dense tile of 50 m, in 10 m.
    """
    words = re.split(r'[_.\-]', Path(name).name)
    for x, y in reversed(list(zip(words, words[1:]))):
        unit = FIELD_WIDTHS.get((len(x), len(y))) if x.isdigit() and y.isdigit() else None
        if unit:
            step, size = UNITS[unit]
            left, top = int(x) * step, int(y) * step
            return TileName((left, top - size, left + size, top), unit)
    return None


def check_name(header: PointHeader) -> str | None:
    """Return a warning where a tile's name and its header disagree; the header is what counts.

    A dense name gives a corner only: the tile may be larger than 50 m.
    """
    name = parse_tile_name(header.path)
    if name is None:
        return None
    x0, y0, x1, y1 = name.box
    low_x, low_y, high_x, high_y = _ground(header)
    corner = low_x >= x0 - TOLERANCE and high_y <= y1 + TOLERANCE
    if name.unit == 'kilometres':
        fits = corner and high_x <= x1 + TOLERANCE and low_y >= y0 - TOLERANCE
    else:
        fits = corner and low_x < x1 and high_y > y0
    if fits:
        return None
    return (f'{header.path}: its name says x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}, its header says '
            f'x {low_x:.2f} to {high_x:.2f}, y {low_y:.2f} to {high_y:.2f}; the header is taken')


class TileIndex:
    """The tiles of one run, by the boxes of their headers.

    Args:
        headers: One per file. A file given twice counts once; files of the same name in two folders are two tiles.
    """

    def __init__(self, headers: Sequence[PointHeader]) -> None:
        self.headers = list({header.path.resolve(): header for header in headers}.values())
        self._boxes = np.array([_ground(header) for header in self.headers], float).reshape(-1, 4)
        self._rows = {header.path.resolve(): row for row, header in enumerate(self.headers)}

    def neighbours(self, tile: PointHeader, buffer: float) -> list[PointHeader]:
        """Return the other tiles that come within ``buffer`` metres of a tile's box, along x and along y."""
        x0, y0, x1, y1 = _ground(tile)
        boxes = self._boxes
        near = ((boxes[:, 0] <= x1 + buffer) & (boxes[:, 2] >= x0 - buffer)
                & (boxes[:, 1] <= y1 + buffer) & (boxes[:, 3] >= y0 - buffer))
        own = self._rows.get(tile.path.resolve())
        return [self.headers[row] for row in np.flatnonzero(near) if row != own]

    def overlaps(self) -> list[str]:
        """Return a warning for each pair of tiles that share ground (more than 1 m along x and along y)."""
        return [f'{header.path}: shares ground with {other.path}: points that lie in both count twice'
                for row, header in enumerate(self.headers) for other in self.neighbours(header, -TOLERANCE)
                if self._rows[other.path.resolve()] > row]


def read_headers(paths: Sequence[str | Path]) -> tuple[list[PointHeader], dict[Path, UserError]]:
    """Read the headers of many tiles; what cannot be read comes back as its error."""
    headers, errors = [], {}
    for path in map(Path, paths):
        try:
            headers.append(read_header(path))
        except UserError as error:
            errors[path] = error
    return headers, errors


def _ground(header: PointHeader) -> tuple[float, float, float, float]:
    x0, y0, _, x1, y1, _ = header.bounds
    return x0, y0, x1, y1


def share_ground(one: PointHeader, other: PointHeader) -> bool:
    """Say whether the boxes of two tiles overlap by more than :data:`TOLERANCE` along x and along y."""
    a, b = _ground(one), _ground(other)
    return min(a[2], b[2]) - max(a[0], b[0]) > TOLERANCE and min(a[3], b[3]) - max(a[1], b[1]) > TOLERANCE
