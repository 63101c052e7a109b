"""Roof plans as GeoJSON after RFC 7946: longitude and latitude, or marked as pixels where asked for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import write_text
from projects.roofline.vectorizing.roof_plan import Columns, RoofPlan

DEGREES, METRES, PIXELS = 9, 3, 3  # decimals: 0.1 mm, 1 mm, 0.001 px


def write_geojson(path: str | Path, plans: Sequence[RoofPlan], pixels: bool = False) -> None:
    """Write lines and faces as one FeatureCollection, atomically; the property `layer` tells them apart.

    Outer rings run counter-clockwise (RFC 7946, 3.1.6), and there is no `crs` member: coordinates are longitude and
    latitude on WGS 84. A third coordinate is a height in metres as the LiDAR tiles count them (the RFC means heights
    above the ellipsoid); it is left out of geometries of which one height is not known.

    Args:
        path: the ``.geojson`` file.
        plans: of one or more images, also of different CRS.
        pixels: write pixels (x to the right, y down) instead, with a member ``"coordinates": "pixels"``: no GIS
            would place them.

    Raises:
        UserError: an image without CRS, unless ``pixels``.
    """
    features: list[str] = []
    faces = buildings = 0
    for plan in plans:
        if not pixels and (plan.place.crs is None or plan.place.transform is None):
            raise UserError(f'{plan.image}: {path}: expected an image with a CRS, since GeoJSON is longitude and '
                            'latitude: write .gpkg, or give --crs EPSG:… (a world file), or --pixels')
        xy = plan.wireframe.junctions if pixels else plan.coordinates(degrees=True)[:, :2]
        points = _positions(xy, None if plan.heights is None else plan.heights.junctions, pixels)
        for line, properties in zip(plan.wireframe.lines, _rows(plan.line_columns(faces)), strict=True):
            features.append(json.dumps(_feature('lines', 'LineString', _chain(points, line), properties)))
        for rings, properties in zip(plan.faces.rings, _rows(plan.face_columns(faces, buildings)), strict=True):
            # y runs down in pixels: what is counter-clockwise to the eye is clockwise by the formula
            closed = [_chain(points, _turned(xy, ring, (k == 0) != pixels)) for k, ring in enumerate(rings)]
            flat = {len(point) for ring in closed for point in ring} == {2, 3}
            closed = [[point[:2] for point in ring] for ring in closed] if flat else closed
            features.append(json.dumps(_feature('faces', 'Polygon', closed, properties)))
        faces += len(plan.faces)
        buildings += int(plan.faces.buildings.max(initial=-1)) + 1
    head = '{"type": "FeatureCollection", ' + ('"coordinates": "pixels", ' if pixels else '') + '"features": ['
    write_text(path, head + ('\n' + ',\n'.join(features) + '\n' if features else '') + ']}\n')


def _positions(xy: np.ndarray, heights: np.ndarray | None, pixels: bool) -> list[list[float]]:
    rounded = np.round(xy, PIXELS if pixels else DEGREES).tolist()
    if heights is None:
        return rounded
    return [[*point, round(height, METRES)] if np.isfinite(height) else point
            for point, height in zip(rounded, heights.tolist(), strict=True)]


def _chain(points: list[list[float]], corners: Sequence[int]) -> list[list[float]]:
    chain = [points[corner] for corner in corners]
    return [point[:2] for point in chain] if {len(point) for point in chain} == {2, 3} else chain


def _turned(xy: np.ndarray, ring: Sequence[int], counter_clockwise: bool) -> list[int]:
    """Return a ring, closed, in the direction asked for."""
    x, y = (xy[list(ring)] - xy[ring[0]]).T
    left = float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) > 0
    corners = list(ring) if left == counter_clockwise else list(ring)[::-1]
    return [*corners, corners[0]]


def _feature(layer: str, kind: str, coordinates: list, properties: dict[str, Any]) -> dict[str, Any]:
    return {'type': 'Feature', 'properties': {'layer': layer, **properties},
            'geometry': {'type': kind, 'coordinates': coordinates}}


def _rows(columns: Columns) -> list[dict[str, Any]]:
    names = list(columns)
    lists = [[_plain(name, value) for value in column.tolist()] for name, column in columns.items()]
    return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, float):
        if not np.isfinite(value):
            return None
        return int(value) if name.startswith('face_') else value
    return value
