"""Visible roof faces as one planar graph in metres: welded junctions, lines split where others end on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.spatial import cKDTree

from projects.roofline.graph import LINE_TYPES
from projects.roofline.scenes.visible import VisibleFace
from projects.scenes.buildings import Building

# Distance in plan within which a border lies on an edge of its own roof, metres
_ON_EDGE = 1e-5
_MEETING = LINE_TYPES.index('valley')


@dataclass(frozen=True, eq=False)
class Arrangement:
    """The wireframe of a village in scene metres.

    Args:
        junctions: (N, 3) float64, x, y and the height of the highest surface that is seen there.
        lines: (M, 2) int64.  types: (M,) uint8, places in LINE_TYPES.
        ends: (M, 2) float64, heights of each line's own ends: a junction on the border of a higher roof is higher
            than the line that goes under it.
        faces: Rings of junctions; a face with a hole has none.
    """

    junctions: np.ndarray
    lines: np.ndarray
    types: np.ndarray
    ends: np.ndarray
    faces: tuple[tuple[int, ...], ...]


def arrange(buildings: Sequence[Building], faces: Sequence[VisibleFace], weld: float) -> Arrangement:
    """Join the borders of the visible faces.

    A line has the type that its own roof gives it. Where the surfaces of two buildings cut each other the line is a
    ``valley``: the higher of two surfaces is seen, so their meeting is concave. Of two lines in one place the higher
    one stays.

    Args:
        buildings: Of the scene.
        faces: From :func:`projects.roofline.scenes.visible.visible_faces`.
        weld: Junctions closer than this are one, and one this close to a line lies on it, metres.
    """
    rings = [(number, shapely.get_coordinates(ring)[:-1], len(piece.interiors) > 0)
             for number, face in enumerate(faces) for piece in face.pieces for ring in (piece.exterior,
                                                                                       *piece.interiors)]
    if not rings:
        return Arrangement(np.zeros((0, 3)), np.zeros((0, 2), np.int64), np.zeros(0, np.uint8), np.zeros((0, 2)), ())
    corners = np.concatenate([ring for _, ring, _ in rings])
    heights = np.concatenate([faces[number].height(ring) for number, ring, _ in rings])
    place, leaders = _weld(corners, _own_corners(corners, buildings), weld)
    junctions = np.column_stack([corners[leaders], np.full(len(leaders), -np.inf)])
    np.maximum.at(junctions[:, 2], place, heights)

    edges = [RoofEdges(building) for building in buildings]
    chains = _split_chains(rings, place, junctions, weld)
    for (number, _, _), rows in zip(rings, chains, strict=True):
        between = [junction for chain in rows for junction in chain[1:-1]]
        junctions[between, 2] = np.maximum(junctions[between, 2], faces[number].height(junctions[between, :2]))
    found: dict[tuple[int, int], tuple[int, float, int, int, tuple[float, float]]] = {}
    outlines = []
    for (number, ring, holed), rows in zip(rings, chains, strict=True):
        face = faces[number]
        types = edges[face.building].types_of(ring, np.roll(ring, -1, axis=0))
        walk: list[int] = []
        for kind, chain in zip(types, rows, strict=True):
            walk += chain[:-1]
            z = face.height(junctions[chain, :2])
            for a, b, za, zb in zip(chain, chain[1:], z, z[1:]):
                key, ends = ((a, b), (za, zb)) if a < b else ((b, a), (zb, za))
                # A roof's own edge before a mere meeting, then the higher one
                rank = (int(kind >= 0), float(za + zb), -face.building, int(kind), (float(ends[0]), float(ends[1])))
                if key not in found or rank > found[key]:
                    found[key] = rank
        outline = _without_spikes(walk)
        if not holed and len(outline) >= 3:
            outlines.append(tuple(outline))
    keys = sorted(found)
    records = [found[key] for key in keys]
    return _without_unused(Arrangement(
        junctions, np.array(keys, np.int64).reshape(-1, 2),
        np.array([_MEETING if kind < 0 else kind for _, _, _, kind, _ in records], np.uint8),
        np.array([ends for *_, ends in records], np.float64).reshape(-1, 2), tuple(outlines)))


class RoofEdges:
    """The typed edges of one building's roof, seen from above."""

    def __init__(self, building: Building):
        lines = building.roof_lines()
        self._start = np.array([line.start[:2] for line in lines]).reshape(-1, 2)
        self._step = np.array([line.end[:2] - line.start[:2] for line in lines]).reshape(-1, 2)
        self._kind = np.array([LINE_TYPES.index(line.type) for line in lines], np.int64)

    def types_of(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Places in LINE_TYPES (N,) of the edges that the borders from ``start`` to ``end`` (N, 2) lie on, else -1."""
        near = (self._distance(start) < _ON_EDGE) & (self._distance(end) < _ON_EDGE)  # (N, E)
        return np.where(near.any(axis=1), self._kind[near.argmax(axis=1)], -1)

    def _distance(self, points: np.ndarray) -> np.ndarray:
        offset = points[:, None] - self._start  # (N, E, 2)
        share = np.clip((offset * self._step).sum(-1) / (self._step**2).sum(-1), 0, 1)
        return np.linalg.norm(offset - share[..., None] * self._step, axis=-1)


def _own_corners(corners: np.ndarray, buildings: Sequence[Building]) -> np.ndarray:
    """Which corners (N, 2) are corners of a roof and not cut by another one."""
    own = np.concatenate([building.roof.vertices[:, :2] for building in buildings])
    return cKDTree(own).query(corners)[0] < _ON_EDGE


def _weld(points: np.ndarray, own: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Join points (N, 2) closer than ``distance``; return each one's group (N,) and the point that leads it (G,).

    A roof's own corner leads before any other, else the first: the leader stays where it is.
    """
    neighbours = cKDTree(points).query_ball_point(points, distance)
    group, leaders = np.full(len(points), -1, np.int64), []
    for number in np.argsort(~own, kind='stable'):
        if group[number] < 0:
            near = [other for other in neighbours[number] if group[other] < 0]
            group[near] = len(leaders)
            leaders.append(int(number))
    return group, np.array(leaders, np.int64)


def _split_chains(rings: list, place: np.ndarray, junctions: np.ndarray, distance: float) -> list[list[list[int]]]:
    """For each ring, the junctions along each of its borders: its ends, and others that lie on it between them.

    A border that welding has closed is one junction.
    """
    starts, ends, first = [], [], 0
    for _, ring, _ in rings:
        here = place[first:first + len(ring)]
        starts.append(here)
        ends.append(np.roll(here, -1))
        first += len(ring)
    start, end = np.concatenate(starts), np.concatenate(ends)
    lines = shapely.linestrings(np.stack([junctions[start, :2], junctions[end, :2]], axis=1))
    line, point = shapely.STRtree(shapely.points(junctions[:, :2])).query(lines, predicate='dwithin', distance=distance)
    between: dict[int, list[tuple[float, int]]] = {}
    for number, other in zip(line.tolist(), point.tolist(), strict=True):
        if other not in (start[number], end[number]):
            step = junctions[end[number], :2] - junctions[start[number], :2]
            share = float((junctions[other, :2] - junctions[start[number], :2]) @ step / (step @ step))
            if 0 < share < 1:
                between.setdefault(number, []).append((share, other))
    chains, number = [], 0
    for _, ring, _ in rings:
        rows = []
        for _ in ring:
            a, b = int(start[number]), int(end[number])
            rows.append([a] if a == b else [a, *(other for _, other in sorted(between.get(number, ()))), b])
            number += 1
        chains.append(rows)
    return chains


def _without_spikes(walk: list[int]) -> list[int]:
    """A ring without repeated corners and without ways there and back."""
    ring, changed = list(walk), True
    while changed and len(ring) >= 3:
        changed = False
        for k in range(len(ring)):
            before, after = ring[k - 1], ring[(k + 1) % len(ring)]
            if ring[k] == after:
                del ring[k]
                changed = True
                break
            if before == after:
                for index in sorted({k, (k + 1) % len(ring)}, reverse=True):
                    del ring[index]
                changed = True
                break
    return ring if len(set(ring)) == len(ring) else []


def _without_unused(whole: Arrangement) -> Arrangement:
    used = np.zeros(len(whole.junctions), bool)
    used[whole.lines] = True
    place = np.cumsum(used) - 1
    return Arrangement(whole.junctions[used], place[whole.lines], whole.types, whole.ends,
                       tuple(tuple(int(place[k]) for k in ring) for ring in whole.faces))
