"""Closed polyhedra: the one form that buildings, their parts and cars have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from projects.scenes.objects import PARTS

# Vertices closer than this (metres) are one vertex: far below any detail, far above rounding
_WELD = 1e-6


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed polyhedron with planar faces.

    Args:
        vertices: (V, 3) float64, metres.
        faces: vertex indices of each face, counter-clockwise seen from outside.
        parts: one name of :data:`projects.scenes.objects.PARTS` per face.
    """

    vertices: np.ndarray
    faces: tuple[tuple[int, ...], ...]
    parts: tuple[str, ...]

    def polygon(self, face: int) -> np.ndarray:
        """Corners (N, 3) of a face."""
        return self.vertices[list(self.faces[face])]

    def normal(self, face: int) -> np.ndarray:
        """Outward unit normal (3,) of a face (Newell's method: any planar polygon)."""
        p = self.polygon(face) - self.vertices[self.faces[face][0]]
        n = np.cross(p, np.roll(p, -1, axis=0)).sum(axis=0)
        return n / np.linalg.norm(n)

    def edges(self) -> dict[tuple[int, int], list[int]]:
        """Map each undirected edge (low index, high index) to the faces that it bounds."""
        found: dict[tuple[int, int], list[int]] = {}
        for f, face in enumerate(self.faces):
            for a, b in zip(face, face[1:] + face[:1]):
                found.setdefault((min(a, b), max(a, b)), []).append(f)
        return found

    def is_closed(self) -> bool:
        """True when every edge lies in exactly two faces, which run along it in opposite directions."""
        directed: set[tuple[int, int]] = set()
        for face in self.faces:
            for a, b in zip(face, face[1:] + face[:1]):
                if (a, b) in directed:
                    return False
                directed.add((a, b))
        return all((b, a) in directed for a, b in directed)

    def volume(self) -> float:
        """Volume in cubic metres, positive when the faces look outward (divergence theorem)."""
        origin = self.vertices.mean(axis=0)
        total = 0.0
        for f in range(len(self.faces)):
            p = self.polygon(f) - origin
            total += np.cross(p[1:-1], p[2:]).dot(p[0]).sum() / 6
        return float(total)

    def moved(self, angle: float, shift: Sequence[float]) -> 'Solid':
        """Return the solid turned by ``angle`` radians about z (counter-clockwise), then moved by ``shift`` (3,)."""
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return Solid(self.vertices @ turn.T + np.asarray(shift, np.float64), self.faces, self.parts)


def weld(polygons: Iterable[tuple[np.ndarray, str]]) -> Solid:
    """Build a solid from (corners (N, 3), part) pairs; corners closer than a micrometre become one vertex."""
    index: dict[tuple[int, int, int], int] = {}
    vertices: list[np.ndarray] = []
    faces, parts = [], []
    for corners, part in polygons:
        if part not in PARTS:
            raise ValueError(f'unknown part {part!r}')
        face: list[int] = []
        for corner in np.asarray(corners, np.float64):
            key = tuple(int(v) for v in np.round(corner / _WELD))
            if key not in index:
                index[key] = len(vertices)
                vertices.append(corner)
            if not face or face[-1] != index[key]:
                face.append(index[key])
        if len(face) > 1 and face[0] == face[-1]:
            face.pop()
        faces.append(tuple(face))
        parts.append(part)
    return Solid(np.array(vertices), tuple(faces), tuple(parts))


def prism(outline: np.ndarray, low: float, high: float, side: str | Sequence[str], top: str, bottom: str) -> Solid:
    """Upright prism over ``outline`` (N, 2), counter-clockwise; ``side`` is one part or one per edge."""
    outline = np.asarray(outline, np.float64)
    n = len(outline)
    vertices = np.empty((2 * n, 3))
    vertices[:n, :2] = vertices[n:, :2] = outline
    vertices[:n, 2], vertices[n:, 2] = low, high
    faces = [tuple(range(n - 1, -1, -1)), tuple(range(n, 2 * n))]
    faces += [(i, (i + 1) % n, n + (i + 1) % n, n + i) for i in range(n)]
    return Solid(vertices, tuple(faces), (bottom, top, *([side] * n if isinstance(side, str) else side)))


def box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], part: str) -> Solid:
    """Axis-aligned box whose faces all carry one part."""
    outline = np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])
    return prism(outline, z[0], z[1], part, part, part)


def extruded(profile: np.ndarray, direction: np.ndarray, part: str) -> Solid:
    """Extrude a planar polygon (N, 3) along ``direction`` (3,); the profile's normal points against the direction."""
    profile = np.asarray(profile, np.float64)
    far = profile + np.asarray(direction, np.float64)
    n = len(profile)
    polygons = [(profile, part), (far[::-1], part)]
    for i in range(n):
        j = (i + 1) % n
        polygons.append((np.array([profile[j], profile[i], far[i], far[j]]), part))
    return weld(polygons)
