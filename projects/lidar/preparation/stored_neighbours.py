"""A store that grows by parts: tiles that it has already and that border on those of a later command."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.geo.point_clouds import PointHeader, read_header
from projects.geo.point_tiles import TileIndex
from projects.geo.task_manifest import file_identity

SEEN = 'neighbours'  # in a tile's record: identities of the files whose points lay in its buffer


def stored_neighbours(headers: Iterable[PointHeader], records: Iterable[Mapping[str, Any]],
                      buffer: float) -> tuple[list[PointHeader], list[str], list[str]]:
    """Find the files of stored tiles that come within a buffer of the tiles to prepare.

    Records know names and no folders, so that a store can move: files are looked for beside those of ``headers``.

    Args:
        headers: Of the tiles to prepare.
        records: Of the store's other tiles.
        buffer: Metres.

    Returns:
        Headers of the files that are there, names of the tiles whose files are not, and names of those that are, but
        were prepared before a tile of ``headers`` was there, or was what it is now.
    """
    headers = list(headers)
    boxes = np.array([_ground(header) for header in headers], float).reshape(-1, 4)
    folders = sorted({header.path.parent for header in headers})
    found: list[tuple[PointHeader, Mapping[str, Any]]] = []
    gone = []
    for record in records:
        low, high = np.array(record['bounds'], float).reshape(2, 2)
        if not ((boxes[:, :2] <= high + buffer) & (boxes[:, 2:] >= low - buffer)).all(axis=1).any():
            continue
        header = _header_of(record['source'], folders)
        if header is None:
            gone.append(record['name'])
        else:
            found.append((header, record))
    index = TileIndex(headers)
    late = [record['name'] for header, record in found if SEEN in record and any(
        file_identity(other.path) not in record[SEEN] for other in index.neighbours(header, buffer))]
    return [header for header, _ in found], gone, late


def _header_of(name: str, folders: Iterable[Path]) -> PointHeader | None:
    for folder in folders:
        try:
            return read_header(folder / name)
        except UserError:
            continue
    return None


def _ground(header: PointHeader) -> tuple[float, float, float, float]:
    x0, y0, _, x1, y1, _ = header.bounds
    return x0, y0, x1, y1
