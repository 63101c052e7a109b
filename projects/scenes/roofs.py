"""Roofs as closed solids over a rectangle or an L, with typed edges.

Local frame: the outline lies at z = 0 (the eave's upper edge), x along the ridge. All slopes of one roof share one
pitch, so hips and valleys lie on the bisectors of the outline's corners (the straight skeleton).
"""

from dataclasses import dataclass

import numpy as np

from projects.scenes.solids import Solid, weld

ROOF_TYPES: tuple[str, ...] = ('flat', 'gable', 'hip', 'mansard', 'gambrel')

MANSARD_LOWER = 66.0  # degrees
MANSARD_UPPER = 20.0
GAMBREL_LOWER = 58.0
GAMBREL_UPPER = 26.0


@dataclass(frozen=True, eq=False)
class RoofEdge:
    """A typed edge of a roof: ``start`` and ``end`` (3,) in metres, ``type`` of objects.EDGE_TYPES."""

    start: np.ndarray
    end: np.ndarray
    type: str


def _close(outline: np.ndarray, top: list[tuple[np.ndarray, str]], thickness: float) -> Solid:
    """Close the surface ``top``, whose border is ``outline`` at z = 0, by a fascia and a level soffit."""
    n = len(outline)
    upper = np.column_stack([outline, np.zeros(n)])
    lower = upper - [0, 0, thickness]
    polygons = list(top) + [(lower[::-1], 'overhang')]
    for i in range(n):
        j = (i + 1) % n
        polygons.append((np.array([lower[i], lower[j], upper[j], upper[i]]), 'roof_edge'))
    return weld(polygons)


def rectangle(length: float, width: float) -> np.ndarray:
    """Outline (4, 2) of a rectangle around the origin, counter-clockwise, ``length`` along x."""
    a, b = length / 2, width / 2
    return np.array([[-a, -b], [a, -b], [a, b], [-a, b]])


def ell(length: float, depth: float, width: float) -> np.ndarray:
    """Outline (6, 2) of an L, counter-clockwise, outer corner at the origin, wings along x and y of equal width."""
    return np.array([[0, 0], [length, 0], [length, width], [width, width], [width, depth], [0, depth]], np.float64)


def rectangle_roof(kind: str, length: float, width: float, pitch: float = 40.0, thickness: float = 0.2) -> Solid:
    """Roof over a rectangle around the origin, ridge along x.

    Args:
        kind: one of :data:`ROOF_TYPES`.
        length, width: metres, length >= width for all but `flat`; hip and mansard need length > width.
        pitch: degrees; used by gable and hip (mansard and gambrel have the pitches of this module).
        thickness: of the roof's edge, metres.
    """
    a, b = length / 2, width / 2
    outline = rectangle(length, width)
    sw, se, ne, nw = np.column_stack([outline, np.zeros(4)])
    part = f'roof_{kind}'
    if kind == 'flat':
        return _close(outline, [(np.array([sw, se, ne, nw]), part)], thickness)
    if kind == 'gable':
        h = b * np.tan(np.radians(pitch))
        west, east = np.array([-a, 0, h]), np.array([a, 0, h])
        top = [([sw, se, east, west], part), ([ne, nw, west, east], part),
               ([se, ne, east], 'wall_plain'), ([nw, sw, west], 'wall_plain')]
    elif kind == 'hip':
        h = b * np.tan(np.radians(pitch))
        west, east = np.array([b - a, 0, h]), np.array([a - b, 0, h])
        top = [([sw, se, east, west], part), ([ne, nw, west, east], part),
               ([se, ne, east], part), ([nw, sw, west], part)]
    elif kind == 'mansard':
        d = 0.24 * b
        h1 = d * np.tan(np.radians(MANSARD_LOWER))
        h2 = h1 + (b - d) * np.tan(np.radians(MANSARD_UPPER))
        i_sw, i_se = np.array([d - a, d - b, h1]), np.array([a - d, d - b, h1])
        i_ne, i_nw = np.array([a - d, b - d, h1]), np.array([d - a, b - d, h1])
        west, east = np.array([b - a, 0, h2]), np.array([a - b, 0, h2])
        top = [([sw, se, i_se, i_sw], part), ([se, ne, i_ne, i_se], part),
               ([ne, nw, i_nw, i_ne], part), ([nw, sw, i_sw, i_nw], part),
               ([i_sw, i_se, east, west], part), ([i_ne, i_nw, west, east], part),
               ([i_se, i_ne, east], part), ([i_nw, i_sw, west], part)]
    elif kind == 'gambrel':
        d = 0.36 * b
        h1 = d * np.tan(np.radians(GAMBREL_LOWER))
        h2 = h1 + (b - d) * np.tan(np.radians(GAMBREL_UPPER))
        ws, es = np.array([-a, d - b, h1]), np.array([a, d - b, h1])
        wn, en = np.array([-a, b - d, h1]), np.array([a, b - d, h1])
        west, east = np.array([-a, 0, h2]), np.array([a, 0, h2])
        top = [([sw, se, es, ws], part), ([ws, es, east, west], part),
               ([ne, nw, wn, en], part), ([en, wn, west, east], part),
               ([se, ne, en, east, es], 'wall_plain'), ([nw, sw, ws, west, wn], 'wall_plain')]
    else:
        raise ValueError(f'unknown roof type {kind!r}: one of {", ".join(ROOF_TYPES)}')
    return _close(outline, [(np.array(p), name) for p, name in top], thickness)


def ell_roof(kind: str, length: float, depth: float, width: float, pitch: float = 40.0,
             thickness: float = 0.2) -> Solid:
    """Roof over an L (see :func:`ell`): one hip at the outer corner, one valley at the inner one.

    ``kind`` is `flat`, `gable` (gables at both ends) or `hip`; ``length`` and ``depth`` must exceed 1.5 ``width``.
    """
    outline = ell(length, depth, width)
    a, b, c, d, e, f = np.column_stack([outline, np.zeros(6)])
    part = f'roof_{kind}'
    if kind == 'flat':
        return _close(outline, [(np.array([a, b, c, d, e, f]), part)], thickness)
    if kind not in ('gable', 'hip'):
        raise ValueError(f'no {kind!r} roof over an L: one of flat, gable, hip')
    half = width / 2
    h = half * np.tan(np.radians(pitch))
    back = half if kind == 'hip' else 0.0
    corner = np.array([half, half, h])
    east, north = np.array([length - back, half, h]), np.array([half, depth - back, h])
    end = part if kind == 'hip' else 'wall_plain'
    top = [([a, b, east, corner], part), ([c, d, corner, east], part), ([d, e, north, corner], part),
           ([f, a, corner, north], part), ([b, c, east], end), ([e, f, north], end)]
    return _close(outline, [(np.array(p), name) for p, name in top], thickness)


def _is_slope(part: str) -> bool:
    return part.startswith('roof_') and part != 'roof_edge'


def roof_edges(roof: Solid) -> list[RoofEdge]:
    """Type every edge of the roof's surface from its two faces (see :data:`projects.scenes.objects.EDGE_TYPES`)."""
    normals = [roof.normal(f) for f in range(len(roof.faces))]
    centres = [roof.polygon(f).mean(axis=0) for f in range(len(roof.faces))]
    found = []
    for (i, j), (f, g) in sorted(roof.edges().items()):
        slopes = [_is_slope(roof.parts[f]), _is_slope(roof.parts[g])]
        if not any(slopes):
            continue
        start, end = roof.vertices[i], roof.vertices[j]
        level = abs(start[2] - end[2]) < 1e-6
        if not all(slopes):
            kind = 'eave' if level else 'verge'
        elif not level:
            kind = 'hip' if normals[f].dot(centres[g] - centres[f]) < 0 else 'valley'
        else:
            kind = 'ridge' if normals[f][:2].dot(normals[g][:2]) < 0 else 'break'
        found.append(RoofEdge(start, end, kind))
    return found
