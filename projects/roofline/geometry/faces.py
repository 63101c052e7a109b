"""The faces of a planar graph, which lines border them, and which of them make up one building."""

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from projects.roofline.graph import LINE_TYPES

OUTLINE, INNER = LINE_TYPES.index('outline'), LINE_TYPES.index('inner')


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of a planar graph of M lines between N junctions.

    Attributes:
        polygons: ``(F,)`` shapely polygons in the coordinates of the junctions.
        rings: per face its rings of junction indices, not closed, the outer ring first, then holes.
        line_faces: ``(M, 2)`` int64: the faces on both sides of a line, -1 where there is none; the only one first.
        buildings: ``(F,)`` int64: faces whose lines hang together are one building, counted from 0.
    """

    polygons: np.ndarray
    rings: tuple[tuple[tuple[int, ...], ...], ...]
    line_faces: np.ndarray
    buildings: np.ndarray

    def __len__(self) -> int:
        return len(self.polygons)

    @property
    def types(self) -> np.ndarray:
        """``(M,)`` uint8, indices of LINE_TYPES: `inner` between two faces, else `outline`."""
        return np.where((self.line_faces >= 0).all(axis=1), INNER, OUTLINE).astype(np.uint8)


def find_faces(junctions: np.ndarray, lines: np.ndarray) -> Faces:
    """Return the bounded faces of a planar graph.

    A yard that roofs enclose on all sides is a face like the roofs around it: lines alone do not tell them apart.

    Args:
        junctions: ``(N, 2)`` float64, no two at one place.
        lines: ``(M, 2)`` int64, which meet at junctions only (see :func:`projects.roofline.geometry.planar`).
    """
    lines = np.asarray(lines, np.int64).reshape(-1, 2)
    if len(lines) == 0:
        return Faces(np.zeros(0, object), (), np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    polygons = shapely.get_parts(shapely.polygonize(shapely.linestrings(junctions[lines])))
    tree = cKDTree(junctions)
    rings, edges, owners = [], [], []
    for face, polygon in enumerate(polygons):
        found = []
        for ring in (polygon.exterior, *polygon.interiors):
            corners = tree.query(shapely.get_coordinates(ring)[:-1])[1]
            found.append(tuple(corners.tolist()))
            edges.append(np.sort(np.stack([corners, np.roll(corners, -1)], axis=1), axis=1))
            owners.append(np.full(len(corners), face))
        rings.append(tuple(found))
    line_faces = np.full((len(lines), 2), -1, np.int64)
    if rings:
        line = _lines_of(np.concatenate(edges), lines, len(junctions))
        owner = np.concatenate(owners)
        order = np.lexsort((owner, line))
        line, owner = line[order], owner[order]
        second = np.append(False, line[1:] == line[:-1])
        line_faces[line[~second], 0], line_faces[line[second], 1] = owner[~second], owner[second]
    graph = coo_matrix((np.ones(len(lines)), (lines[:, 0], lines[:, 1])), shape=(len(junctions),) * 2)
    parts = connected_components(graph, directed=False)[1]
    of_face = parts[[ring[0][0] for ring in rings]] if rings else np.zeros(0, np.int64)
    buildings = np.unique(of_face, return_inverse=True)[1].astype(np.int64)
    return Faces(polygons, tuple(rings), line_faces, buildings)


def _lines_of(edges: np.ndarray, lines: np.ndarray, count: int) -> np.ndarray:
    """Return the line of each edge ``(E, 2)``, given from the lower to the higher junction."""
    low_high = np.sort(lines, axis=1)
    keys = low_high[:, 0] * count + low_high[:, 1]
    order = np.argsort(keys, kind='stable')
    return order[np.searchsorted(keys[order], edges[:, 0] * count + edges[:, 1])]
