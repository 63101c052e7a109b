"""Faces of buildings and cars as a table, and the first face that each ray meets.

A ray is tested where it is aimed at: projecting a face to the base level, as its strip sees it, turns a planar convex
polygon into one of two dimensions, and the ray into a point. The point of the hit then follows from the face's plane.
"""

from dataclasses import dataclass

import numpy as np

from projects.scenes.lidar_flight import Flight, Pulses
from projects.scenes.lidar_pairs import PulseGrid
from projects.scenes.objects import OBJECTS, PARTS
from projects.scenes.scene import Scene
from projects.scenes.solids import Solid


def convex_pieces(corners: np.ndarray, normal: np.ndarray) -> list[np.ndarray]:
    """Cut a planar polygon (N, 3), counter-clockwise about ``normal``, into convex ones (ears off the corners)."""
    def bends(polygon: np.ndarray) -> np.ndarray:
        ahead = np.roll(polygon, -1, axis=0) - polygon
        return np.cross(np.roll(ahead, 1, axis=0), ahead) @ normal

    if (bends(corners) >= -1e-9).all():
        return [corners]
    left, pieces = list(range(len(corners))), []
    while len(left) > 3 and (bends(corners[left]) < -1e-9).any():
        bend = bends(corners[left])
        for k in range(len(left)):
            triangle = corners[[left[k - 1], left[k], left[(k + 1) % len(left)]]]
            sides = np.roll(triangle, -1, axis=0) - triangle
            others = [i for i in left if i not in (left[k - 1], left[k], left[(k + 1) % len(left)])]
            inside = [(np.cross(sides, corners[i] - triangle) @ normal > -1e-9).all() for i in others]
            if bend[k] > 1e-9 and not any(inside):
                pieces.append(triangle)
                left.pop(k)
                break
        else:
            break
    return [*pieces, corners[left]]


@dataclass(frozen=True, eq=False)
class Faces:
    """Convex faces that a laser from above may see; arrays of one length F, corners padded to the longest.

    Attributes:
        corners: (F, K, 3) flight coordinates s, c and height; the last corner is repeated.
        normal: (F, 3) in the same axes; offset: (F,) normal · corner.
        part: index into PARTS + 1.  object, building: id, index or -1.  shine: share of the light that comes back.
        box: (F, 4) least and greatest s, c.
    """

    corners: np.ndarray
    normal: np.ndarray
    offset: np.ndarray
    part: np.ndarray
    object: np.ndarray
    building: np.ndarray
    shine: np.ndarray
    box: np.ndarray

    def __len__(self) -> int:
        return len(self.offset)


# Share of light at 1064 nm that comes back from what has no colour of its own
_SHINE: dict[str, float] = {
    'wall_plain': 0.5, 'wall_with_windows': 0.5, 'wall_with_door': 0.5, 'roof_edge': 0.42, 'overhang': 0.4,
    'cornice': 0.55, 'chimney': 0.4, 'skylight': 0.18, 'window': 0.12, 'door': 0.3, 'garage_door': 0.38,
    'balcony': 0.48, 'balustrade': 0.4, 'foundation': 0.35, 'car_glass': 0.1}
# By part + 1: that share; roofs, dormers and cars have colours of their own; walls differ from house to house
_SHINE_OF = np.array([0.0] + [_SHINE.get(part, 0.0) for part in PARTS])
_OWN = np.array([False] + [part not in _SHINE for part in PARTS])
_WALL = np.array([False] + [part.startswith('wall') for part in PARTS])


def make_faces(scene: Scene, flight: Flight) -> Faces:
    """Table of all faces of the scene that a ray of this flight can meet from outside."""
    polygons: list[np.ndarray] = []
    rows: list[tuple] = []  # part, object, building, tone, render
    for index, building in enumerate(scene.buildings):
        render = 0.75 + 0.5 * (building.seed % 97) / 97  # one building's walls are lighter than another's
        for solid in building.solids:
            _add(polygons, rows, solid, (OBJECTS['building'], index, building.roof_tone[3], render))
    for car in scene.cars:
        for solid in car.solids:
            _add(polygons, rows, solid, (OBJECTS['car'], -1, car.tone[3], 1.0))
    table = np.array(rows).reshape(-1, 5)
    corners, count = _padded(polygons)
    corners[..., 0], corners[..., 1] = flight.to_flight(corners[..., 0], corners[..., 1])
    # Newell's method; a repeated corner adds nothing
    p = corners - corners[:, :1]
    normal = np.cross(p, np.roll(p, -1, axis=1)).sum(axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    # What looks down too far is met by no ray: none comes from below
    seen = np.flatnonzero(normal[:, 2] > -np.hypot(normal[:, 0], normal[:, 1]) * flight.steepest)
    # Bends of polygons of four corners or fewer at once; they are most
    p = np.take_along_axis(corners, np.minimum(np.arange(4), count[:, None] - 1)[..., None], axis=1)
    ahead = np.roll(p, -1, axis=1) - p
    bend = (np.cross(np.roll(ahead, 1, axis=1), ahead) * normal[:, None]).sum(axis=2)
    convex = (count <= 3) | (count == 4) & (bend >= -1e-9).all(axis=1)
    pieces, owner = [], []
    for k in seen:
        polygon = corners[k, :count[k]]
        found = [polygon] if convex[k] else convex_pieces(polygon, normal[k])
        pieces += found
        owner += [k] * len(found)
    corners, _ = _padded(pieces)
    normal, table = normal[owner], table[owner]
    part = table[:, 0].astype(np.uint8)
    shine = np.where(_OWN[part], table[:, 3] / 255 * 0.8, _SHINE_OF[part] * np.where(_WALL[part], table[:, 4], 1.0))
    box = np.hstack([corners[:, :, :2].min(axis=1), corners[:, :, :2].max(axis=1)]).reshape(-1, 4)
    return Faces(corners, normal, (normal * corners[:, 0]).sum(axis=1), part, table[:, 1].astype(np.uint8),
                 table[:, 2].astype(np.int32), shine, box)


def _add(polygons: list[np.ndarray], rows: list[tuple], solid: Solid, row: tuple) -> None:
    for face, part in zip(solid.faces, solid.parts):
        polygons.append(solid.vertices[list(face)])
        rows.append((PARTS.index(part) + 1, *row))


def _padded(polygons: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Polygons as one array (F, K, 3), the last corner repeated, and their numbers of corners (F,)."""
    count = np.array([len(p) for p in polygons], np.int64)
    if not len(count):
        return np.zeros((0, 3, 3)), count
    most = int(count.max())
    start = np.cumsum(count) - count
    pick = start[:, None] + np.minimum(np.arange(most), count[:, None] - 1)
    return np.concatenate(polygons)[pick], count


def first_faces(faces: Faces, near: np.ndarray, pulses: Pulses,
                flight: Flight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The face that each pulse meets first.

    Args:
        near: indices of the faces to look at.
    Returns:
        (face (N,) int32, -1 for none; drop below the base (N,) float64, infinite for none; mask (N,) of the pulses
        that pass within a metre or so of a face).
    """
    face, drop = np.full(len(pulses), -1, np.int32), np.full(len(pulses), np.inf)
    close = np.zeros(len(pulses), bool)
    if not len(near) or not len(pulses):
        return face, drop, close
    corners = faces.corners[near]  # (M, K, 3)
    # Aimed at: (M, K) each
    s, c = flight.aimed(corners[..., 0], corners[..., 1], flight.base - corners[..., 2], pulses.strip, pulses.channel)
    s1, c1 = np.roll(s, -1, axis=1), np.roll(c, -1, axis=1)
    a, b, k = c - c1, s1 - s, s * c1 - s1 * c  # a s + b c + k >= 0 on the left of every edge; 0 for repeated corners
    seen = k.sum(axis=1) > 1e-9  # twice the projected area: faces turned away run clockwise
    near, s, c, a, b, k = (v[seen] for v in (near, s, c, a, b, k))
    item, pulse = PulseGrid(pulses.s, pulses.c).pairs(s.min(axis=1), c.min(axis=1), s.max(axis=1), c.max(axis=1))
    close[pulse] = True
    for e in range(a.shape[1]):
        inside = a[item, e] * pulses.s[pulse] + b[item, e] * pulses.c[pulse] + k[item, e] >= 0
        item, pulse = item[inside], pulse[inside]
    met = near[item]
    n = faces.normal[met]
    at = n[:, 0] * pulses.s[pulse] + n[:, 1] * pulses.c[pulse] + n[:, 2] * flight.base
    w = (faces.offset[met] - at) / (n[:, 0] * pulses.ts + n[:, 1] * pulses.tc[pulse] - n[:, 2])
    order = np.lexsort((met, w, pulse))
    pulse, first = np.unique(pulse[order], return_index=True)
    face[pulse], drop[pulse] = met[order][first], w[order][first]
    return face, drop, close
