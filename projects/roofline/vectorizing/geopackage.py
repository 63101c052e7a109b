"""Roof plans as a GeoPackage with the layers lines, faces and junctions, in the images' own CRS."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio.raw
import shapely

from projects.engine.files import atomic_path
from projects.roofline.vectorizing.roof_plan import Columns, RoofPlan

LAYERS = ('lines', 'faces', 'junctions')
FACE_IDS = ('face_1', 'face_2')  # whole numbers or nothing


def write_geopackage(path: str | Path, plans: Sequence[RoofPlan]) -> None:
    """Write the plans of images of one CRS, atomically.

    Without any transform the coordinates are pixels (x to the right, y down). With heights all geometries have a Z in
    metres, as the LiDAR tiles count them; NaN where it is not known (attribute `height_from` of the junctions).

    Args:
        path: the ``.gpkg`` file.
        plans: at least one, all with heights or none.
    """
    spatial = any(plan.heights is not None for plan in plans)
    crs = plans[0].place.crs.to_wkt() if plans[0].place.crs else None
    with atomic_path(path) as temporary:
        temporary.unlink()  # OGR does not create a GeoPackage over the empty file
        for layer, kind, geometries, columns in _layers(plans):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', UserWarning)  # of a missing CRS, which the caller has told
                pyogrio.raw.write(
                    temporary, geometry=shapely.to_wkb(geometries, output_dimension=3 if spatial else 2),
                    field_data=[_integers(values) if name in FACE_IDS else values for name, values in columns.items()],
                    field_mask=[np.isnan(values) if name in FACE_IDS else None for name, values in columns.items()],
                    fields=list(columns), layer=layer, driver='GPKG', crs=crs,
                    geometry_type=f'{kind} Z' if spatial else kind)


def _layers(plans: Sequence[RoofPlan]) -> list[tuple[str, str, np.ndarray, Columns]]:
    found = {layer: ([], []) for layer in LAYERS}
    faces = buildings = 0
    for plan in plans:
        points = plan.coordinates()
        polygons = [shapely.Polygon(points[list(outer)], [points[list(hole)] for hole in holes])
                    for outer, *holes in plan.faces.rings]
        for layer, geometries, columns in (
                ('lines', shapely.linestrings(points[plan.wireframe.lines]), plan.line_columns(faces)),
                ('faces', polygons, plan.face_columns(faces, buildings)),
                ('junctions', shapely.points(points), plan.junction_columns())):
            found[layer][0].append(np.array(geometries, dtype=object).reshape(-1))
            found[layer][1].append(columns)
        faces += len(plan.faces)
        buildings += int(plan.faces.buildings.max(initial=-1)) + 1
    kinds = zip(LAYERS, ('LineString', 'Polygon', 'Point'), strict=True)
    return [(layer, kind, np.concatenate(found[layer][0]), _joined(found[layer][1])) for layer, kind in kinds]


def _integers(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values).astype(np.int64)


def _joined(parts: Sequence[Columns]) -> Columns:
    """Return columns one below the other; an image without any feature does not say which columns there are."""
    parts = [part for part in parts if len(part['image'])] or parts[:1]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
