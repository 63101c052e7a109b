"""Class polygons as GeoPackage, and hectares: exact for plane, geographic and web Mercator coordinates."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyogrio.raw
import rasterio
import rasterio.features
import shapely
from affine import Affine
from rasterio.crs import CRS

from projects.engine.files import atomic_path
from projects.geo.raster import IGNORE, open_raster

HECTARE = 10_000.0  # square metres
WGS84 = (6378137.0, 298.257223563)
BATCH = 20_000  # polygons written at once

ToEqualArea = Callable[[np.ndarray], np.ndarray]


def equal_area(crs: CRS | None) -> ToEqualArea | None:
    """Return a map from coordinates ``(n, 2)`` of ``crs`` to a plane in metres that keeps areas; None without CRS.

    - Projected CRS: its own plane, scaled to metres. The projection's distortion (0.1 % in UTM) stays in.
    - Geographic CRS: the cylindrical equal-area projection of its ellipsoid. Pixels stay rectangles there, so that
      their areas are exact: ``y = a (1 - e^2) / 2 (sin f / (1 - e^2 sin^2 f) + atanh(e sin f) / e)`` at latitude f,
      which is ``a q / 2`` with the q of J. P. Snyder, Map Projections: A Working Manual, 1987, eq. 3-12.
    - Web Mercator (EPSG:3857), whose own plane overstates areas by ``1 / cos^2(latitude)``: the same, after its
      inverse.
    """
    if crs is None:
        return None
    if crs.is_geographic:
        radians = crs.units_factor[1]
        a, inverse_flattening = _ellipsoid(crs)
        return lambda xy: _cylindrical(xy[:, 0] * radians, xy[:, 1] * radians, a, inverse_flattening)
    if crs.to_epsg() == 3857:
        a, inverse_flattening = WGS84
        return lambda xy: _cylindrical(xy[:, 0] / a, np.arctan(np.sinh(xy[:, 1] / a)), a, inverse_flattening)
    if not crs.is_projected:
        return None
    metres = crs.linear_units_factor[1]
    return lambda xy: xy * metres


def pixel_areas(transform: Affine, crs: CRS | None, top: int, rows: int, width: int) -> np.ndarray | None:
    """Return ``(rows,)`` float64: the area in square metres of a pixel in each row from ``top``; None without CRS.

    In a rotated grid of geographic coordinates areas also change along a row: the middle column's stand for it.
    """
    to_plane = equal_area(crs)
    if to_plane is None:
        return None
    column = (width - 1) // 2
    row = np.arange(top, top + rows)
    corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
    points = [to_plane(np.stack(_apply(transform, x, y), axis=1)) for x, y in corners]
    diagonal, other = points[2] - points[0], points[3] - points[1]
    return 0.5 * np.abs(diagonal[:, 0] * other[:, 1] - diagonal[:, 1] * other[:, 0])


def write_polygons(
    class_raster: str | Path,
    destination: str | Path,
    classes: Sequence[str],
    layer: str = 'classes',
) -> int:
    """Write the connected areas of a class raster as polygons into a GeoPackage, atomically.

    The outlines are exactly those of the pixels (4-connected, nothing simplified), with the attributes `class_id`,
    `class_name` and `area_ha` (null without CRS; see :func:`equal_area`). Pixels of 255 have no polygon. GDAL reads
    the raster row by row, but holds all polygons until they are written: memory grows with their number (roughly
    1 kB each), not with the raster.

    Args:
        class_raster: one band of class indices, uint8, any format GDAL reads. Without georeferencing the polygons
            are in pixels.
        destination: the `.gpkg` file.
        classes: class names by index.
        layer: name of the layer.

    Returns:
        The number of polygons.
    """
    count = 0
    with open_raster(class_raster) as dataset, atomic_path(destination) as temporary:
        temporary.unlink()  # OGR does not create a GeoPackage over the empty file
        to_plane = equal_area(dataset.crs)
        crs = dataset.crs.to_wkt() if dataset.crs else None
        shapes = _shapes(dataset)
        while True:
            batch = list(islice(shapes, BATCH))
            if count and not batch:
                break
            _append(temporary, layer, crs, batch, classes, to_plane, append=count > 0)
            count += len(batch)
            if len(batch) < BATCH:
                break
    return count


def _shapes(dataset: rasterio.DatasetReader) -> Iterator[tuple[shapely.Polygon, int]]:
    shapes = rasterio.features.shapes(rasterio.band(dataset, 1), connectivity=4, transform=dataset.transform)
    for geometry, value in shapes:
        if int(value) != IGNORE:
            exterior, *holes = geometry['coordinates']
            yield shapely.Polygon(exterior, holes), int(value)


def _append(
    path: Path,
    layer: str,
    crs: str | None,
    batch: list[tuple[shapely.Polygon, int]],
    classes: Sequence[str],
    to_plane: ToEqualArea | None,
    append: bool,
) -> None:
    polygons = np.array([polygon for polygon, _ in batch], dtype=object)
    indices = np.array([index for _, index in batch], dtype=np.int32)
    names = np.array([classes[index] for index in indices], dtype=object)
    hectares = np.full(len(batch), np.nan)
    if to_plane is not None and batch:
        hectares = shapely.area(shapely.transform(polygons, to_plane)) / HECTARE
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # pyogrio warns of a missing CRS, which the caller has told
        pyogrio.raw.write(
            path, geometry=shapely.to_wkb(polygons), field_data=[indices, names, hectares],
            fields=['class_id', 'class_name', 'area_ha'], layer=layer, driver='GPKG', geometry_type='Polygon',
            crs=crs, append=append,
        )


def _apply(transform: Affine, x: np.ndarray | int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def _cylindrical(longitude: np.ndarray, latitude: np.ndarray, a: float, inverse_flattening: float) -> np.ndarray:
    flattening = 1 / inverse_flattening if inverse_flattening else 0.0
    e2 = flattening * (2 - flattening)
    sine = np.sin(latitude)
    if e2 == 0:
        y = a * sine
    else:
        e = np.sqrt(e2)
        y = 0.5 * a * (1 - e2) * (sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e)
    return np.stack([a * longitude, y], axis=1)


def _ellipsoid(crs: CRS) -> tuple[float, float]:
    """Return the semi-major axis in metres and the inverse flattening (0 for a sphere)."""
    found = re.search(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",\s*([-\d.eE]+),\s*([-\d.eE]+)', crs.to_wkt())
    return (float(found[1]), float(found[2])) if found else WGS84
