"""Everything that one k-nearest search feeds: geometry, density, outlier flags, and which neighbourhoods are whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from projects.lidar.preparation.cells import UNIT, Cell, iter_cells
from projects.lidar.preparation.geometry import GEOMETRY, eigen_features, log_density
from projects.lidar.preparation.neighbours import k_nearest
from projects.lidar.preparation.outliers import outlier_flags, square_of


@dataclass(frozen=True)
class FeatureBlock:
    """Features of a tile's own points, in the order of the input.

    Attributes:
        geometry: ``(n, 9)`` float32, see :data:`projects.lidar.preparation.geometry.GEOMETRY`.
        log_density: log(1 + points per square metre) ``(n,)`` float32.
        outlier: Bits ``(n,)`` uint8, see :mod:`projects.lidar.preparation.outliers`.
        incomplete: ``(n,)`` bool: the neighbourhood, or one that its square's threshold rests on, may reach past the
            points that were given. All other values are those of a cloud without an end.
    """

    geometry: np.ndarray
    log_density: np.ndarray
    outlier: np.ndarray
    incomplete: np.ndarray


def compute_features(xyz: np.ndarray, own: np.ndarray, *, neighbours: int, buffer: float,
                     sor: Mapping[str, Any] | None = None, ror: Mapping[str, Any] | None = None) -> FeatureBlock:
    """Return the features of a tile's points, which do not depend on where it was cut out.

    Args:
        xyz: The tile's points and those up to ``buffer`` metres around its box, in any order, absolute coordinates in
            metres ``(M, 3)`` float64.
        own: Which points are the tile's ``(M,)`` bool.
        neighbours: Size of a neighbourhood, the point included.
        buffer: Metres.
        sor: ``k``, ``std``; None: no SOR.
        ror: ``radius``, ``neighbours``; None: no ROR.
    """
    count = len(xyz)
    geometry, density = np.zeros((count, len(GEOMETRY)), np.float32), np.zeros(count, np.float32)
    outlier, incomplete = np.zeros(count, np.uint8), np.zeros(count, bool)
    k = max(neighbours, sor['k'] + 1 if sor else 0, ror['neighbours'] + 1 if ror else 0)
    for cell in iter_cells(xyz, own, buffer):
        queries = _queries(cell, with_squares=bool(sor or ror))
        mine = cell.own[queries]
        at = cell.index[queries[mine]]
        places = cell.units[queries]
        index, distance = k_nearest(cell.units, k, places)
        border = _to_border(places, cell.box)
        flags = outlier_flags(cell.units, index, distance, queries, sor, ror)
        cut = _reach_past(distance, k, border)
        filtered = max(sor['k'] if sor else 0, ror['neighbours'] if ror else 0) + 1
        if filtered > 1:  # a square's threshold rests on the neighbourhoods of all its points
            short = _reach_past(distance[:, :filtered], filtered, border)
            if short.any():
                square = square_of(places)
                cut |= np.isin(square, square[short])
        outlier[at], incomplete[at] = flags[mine], cut[mine]
        if not mine.all():
            index, distance, places = index[mine], distance[mine], places[mine]
        if k > neighbours:  # the first of equals must be those of the lower rank here, too
            index, distance = k_nearest(cell.units, neighbours, places)
        geometry[at] = eigen_features(cell.units, index, places)
        density[at] = log_density(np.sqrt(distance[:, -1]) * UNIT, index.shape[1])
    return FeatureBlock(geometry[own], density[own], outlier[own], incomplete[own])


def _queries(cell: Cell, with_squares: bool) -> np.ndarray:
    """Return the rows to search for: own points, and others in their squares."""
    if not with_squares or (cell.own == cell.inside).all():
        return np.flatnonzero(cell.own)
    inside = np.flatnonzero(cell.inside)
    square = square_of(cell.units[inside])
    return inside[np.isin(square, square[cell.own[inside]])]


def _to_border(places: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Return the distance of each point to the end of what is known ``(q,)``."""
    x, y = places[:, 0], places[:, 1]
    return np.maximum(np.minimum(np.minimum(x - box[0], box[2] - x), np.minimum(y - box[1], box[3] - y)), 0)


def _reach_past(distance: np.ndarray, k: int, border: np.ndarray) -> np.ndarray:
    return distance[:, -1] >= border ** 2 if distance.shape[1] == k else np.ones(len(distance), bool)
