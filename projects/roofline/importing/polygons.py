"""Polygons that were drawn one by one, made one planar graph: corners snapped, shared edges once, faces kept."""

from collections.abc import Sequence

import numpy as np
import shapely

from projects.roofline.geometry.faces import find_faces
from projects.roofline.geometry.planar import SMALLEST, clean_planar, snap_points

Polygon = Sequence[np.ndarray]  # rings (K, 2), closed or not: the outer one first


def lost_by_snapping(polygons: Sequence[Polygon], tolerance: float) -> tuple[int, int]:
    """Return how many edges of polygons snapping leaves without length, and how many edges there are.

    Edges that two polygons share are not lost, and count twice.

    Args:
        polygons: Rings of (x, y) in pixels.
        tolerance: Pixels.
    """
    points, lines = _edges(polygons)
    if len(points) == 0:
        return 0, 0
    _, group = snap_points(points, max(tolerance, SMALLEST))
    same = group[lines[:, 0]] == group[lines[:, 1]]
    long = np.linalg.norm(points[lines[:, 0]] - points[lines[:, 1]], axis=1) > SMALLEST
    return int(np.count_nonzero(same & long)), int(np.count_nonzero(long))


def graph_of_polygons(polygons: Sequence[Polygon], tolerance: float
                      ) -> tuple[np.ndarray, np.ndarray, tuple[tuple[int, ...], ...], np.ndarray]:
    """Return the planar graph of polygons.

    Corners within ``tolerance`` become one, an edge with a corner of a neighbour on it is split there, edges that
    two polygons share are there once, and crossing edges get a junction. Then the faces of the graph are looked up in
    the polygons: what lies in none (a courtyard) is no face; what lies in several is of the smallest of them, as a
    dormer that was drawn on top of a roof.

    Args:
        polygons: Rings of (x, y) in pixels.
        tolerance: Pixels.

    Returns:
        junctions (N, 2) float64, lines (M, 2) int64, faces as rings of junctions that are not closed, and (F,) int64:
        the polygon of each face.
    """
    points, lines = _edges(polygons)
    if len(points) == 0:
        return points, lines, (), np.zeros(0, np.int64)
    junctions, lines, _ = clean_planar(points, lines, tolerance)
    faces, owners = _faces(junctions, lines, polygons)
    return junctions, lines, faces, owners


def _edges(polygons: Sequence[Polygon]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (N, 2) and edges (M, 2) of all rings, each ring for itself."""
    points, lines, count = [], [], 0
    for polygon in polygons:
        for ring in polygon:
            ring = np.asarray(ring, np.float64).reshape(-1, 2)
            ring = ring[:-1] if len(ring) > 1 and (ring[0] == ring[-1]).all() else ring
            if len(ring) < 3:
                continue
            number = np.arange(len(ring))
            points.append(ring)
            lines.append(count + np.stack([number, np.roll(number, -1)], axis=1))
            count += len(ring)
    if not points:
        return np.zeros((0, 2)), np.zeros((0, 2), np.int64)
    return np.concatenate(points), np.concatenate(lines)


def _faces(junctions: np.ndarray, lines: np.ndarray,
           polygons: Sequence[Polygon]) -> tuple[tuple[tuple[int, ...], ...], np.ndarray]:
    """Return the faces of a planar graph that lie in polygons, and which polygon each lies in."""
    sources = shapely.make_valid([shapely.Polygon(polygon[0], polygon[1:]) for polygon in polygons])
    areas = shapely.area(sources)
    found = find_faces(junctions, lines)
    face, source = shapely.STRtree(sources).query(shapely.point_on_surface(found.polygons), predicate='within')
    order = np.lexsort((areas[source], face))
    face, first = np.unique(face[order], return_index=True)
    return tuple(found.rings[number][0] for number in face), source[order][first].astype(np.int64)
