"""Roof plans with heights as Wavefront OBJ: faces, and the edges that no face has, around a local origin."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from projects.engine.errors import UserError
from projects.engine.files import write_text
from projects.roofline.vectorizing.roof_plan import RoofPlan


def write_obj(path: str | Path, plans: Sequence[RoofPlan]) -> int:
    """Write the plans as ``v``, ``f`` and ``l``, atomically: x east, y north, z up, metres.

    Faces run counter-clockwise seen from above.
    Coordinates count from an origin on whole metres, which stands in the comment ``# origin X Y Z`` (ground coordinates
    in metres) together with ``# crs``: the single precision of many viewers would lose 6 cm of full ones. One
    ``g building_N`` a building. A face with holes is written as triangles, which OBJ can hold.

    Args:
        path: the ``.obj`` file.
        plans: with heights, all of one CRS.

    Returns:
        How many faces and lines were left out because a height of theirs is not known.

    Raises:
        UserError: a plan without heights.
    """
    if any(plan.heights is None for plan in plans):
        raise UserError(f'{path}: expected heights, which --lidar gives')
    points = [np.column_stack([plan.coordinates()[:, :2] * plan.place.metres, plan.heights.junctions])
              for plan in plans]
    every = np.concatenate(points)
    known = every[np.isfinite(every).all(axis=1)]
    origin = np.floor(known.min(axis=0)) if len(known) else np.zeros(3)
    crs = plans[0].place.crs
    code = crs.to_epsg() if crs else None
    text = ['# roofs: x east, y north, z up, metres from the origin',
            '# origin ' + ' '.join(f'{value:.0f}' for value in origin),
            f'# crs {f"EPSG:{code}" if code else crs.to_wkt() if crs else "unknown"}']
    left_out = offset = buildings = 0
    for plan, xyz in zip(plans, points, strict=True):
        valid = np.isfinite(xyz).all(axis=1)
        number = np.cumsum(valid) + offset
        text.append(f'o {"_".join(plan.image.split())}')
        text += [f'v {x:.4f} {y:.4f} {z:.4f}' for x, y, z in (xyz[valid] - origin).tolist()]
        for building in range(int(plan.faces.buildings.max(initial=-1)) + 1):
            text.append(f'g building_{buildings + building}')
            for face in np.flatnonzero(plan.faces.buildings == building):
                if valid[[corner for ring in plan.faces.rings[face] for corner in ring]].all():
                    text += ['f ' + ' '.join(str(number[corner]) for corner in piece)
                             for piece in _pieces(plan.faces.rings[face], xyz)]
                else:
                    left_out += 1
        buildings += int(plan.faces.buildings.max(initial=-1)) + 1
        loose = plan.wireframe.lines[(plan.faces.line_faces < 0).all(axis=1)]
        drawn = valid[loose].all(axis=1)
        left_out += int((~drawn).sum())
        if drawn.any():
            text += ['g loose_lines', *(f'l {number[a]} {number[b]}' for a, b in loose[drawn])]
        offset += int(valid.sum())
    write_text(path, '\n'.join(text) + '\n')
    return left_out


def _pieces(rings: Sequence[Sequence[int]], xyz: np.ndarray) -> list[list[int]]:
    """Return the face's outer ring, or triangles where it has holes; corners counter-clockwise from above."""
    if len(rings) == 1:
        return [_upward(list(rings[0]), xyz)]
    corners = np.array([corner for ring in rings for corner in ring])
    polygon = shapely.Polygon(xyz[list(rings[0]), :2], [xyz[list(hole), :2] for hole in rings[1:]])
    pieces = []
    for triangle in shapely.get_parts(shapely.constrained_delaunay_triangles(polygon)):
        places = shapely.get_coordinates(triangle)[:3]
        nearest = np.abs(places[:, None] - xyz[corners][None, :, :2]).sum(axis=2).argmin(axis=1)
        pieces.append(_upward(corners[nearest].tolist(), xyz))
    return pieces


def _upward(ring: list[int], xyz: np.ndarray) -> list[int]:
    x, y = (xyz[ring, :2] - xyz[ring[0], :2]).T
    return ring if x @ np.roll(y, -1) - y @ np.roll(x, -1) > 0 else ring[::-1]
