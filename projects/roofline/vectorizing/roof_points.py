"""The laser points of each face: which tiles fit the image, and which of their points may lie on a roof."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.errors import CRSError
from scipy.ndimage import minimum_filter

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.geo.las_layout import read_layout
from projects.geo.point_clouds import PointHeader, iter_points, read_header
from projects.roofline.geometry.place import Place, name_of

BUILDING = 6
UNCLASSIFIED = (0, 1)
NOISE = (7, 18, 65)
CELL = 10.0  # metres: the lowest point of 3 x 3 cells stands for the ground
HIGH = 2.0  # metres above it: an unclassified point may be of a roof
ENOUGH = 8  # points of class 6 in a face: then unclassified ones are not needed
SHRINK = 0.4  # metres off a face's border: gutters, neighbours, and ends that are not exact


def tiles_with_points(paths: Sequence[str | Path]) -> tuple[list[PointHeader], list[Path]]:
    """Return the headers of the LiDAR tiles that have points, and the paths of those that have none.

    Raises:
        UserError: a file that is no LiDAR tile; no tile has points.
    """
    empty = [Path(path) for path in paths if not read_layout(path).count]
    headers = [read_header(path) for path in paths if Path(path) not in empty]
    if empty and not headers:
        others = f' (nor in {len(empty) - 1} more)' if len(empty) > 1 else ''
        raise UserError(f'{empty[0]}: --lidar: expected points, found none{others}')
    return headers, empty


def read_lidar(paths: Sequence[str | Path], place: Place, image: str | Path,
               size: tuple[int, int]) -> list[PointHeader]:
    """Return the headers of the LiDAR tiles that share ground with an image; those without points share none.

    Raises:
        UserError: an image without ground coordinates in metres, a tile on another plane, no tile over the image, no
            tile with points.
    """
    headers, _ = tiles_with_points(paths)
    if place.metres is None or place.transform is None:
        raise UserError(f'{image}: --lidar: expected an image on a plane in metres, found '
                        f'{"no georeference" if place.transform is None else name_of(place.crs)}')
    if abs(place.metres - 1) > 1e-9:
        raise UserError(f'{image}: --lidar: expected an image on a plane in metres, found {name_of(place.crs)}, whose '
                        f'unit is {place.metres:.6g} m')
    for header in headers:
        if header.crs is not None and not _same(header.crs, place.crs):
            raise UserError(f'{header.path}: --lidar: expected the CRS of {image} ({name_of(place.crs)}), '
                            f'found {header.crs}')
    height, width = size
    corners = place.ground(np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64))
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    over = [header for header in headers if header.bounds[0] < right and header.bounds[3] > left
            and header.bounds[1] < top and header.bounds[4] > bottom]
    if not over:
        x0, y0, _, x1, y1, _ = headers[0].bounds
        raise UserError(f'{headers[0].path}: --lidar: expected a tile over {image} (x {left:.0f} to {right:.0f}, '
                        f'y {bottom:.0f} to {top:.0f}), found x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}')
    return over


def points_of_faces(headers: Sequence[PointHeader], faces: np.ndarray) -> list[np.ndarray]:
    """Return the points ``(n, 3)`` of each face that may lie on its roof.

    Inside the face, :data:`SHRINK` metres off its border (less in narrow faces): points of class 6; where these are
    fewer than :data:`ENOUGH`, also unclassified ones at least :data:`HIGH` metres above the lowest ground around.
    Files are read by chunks: memory is that of a chunk and of the points on roofs.

    Args:
        headers: of the tiles, see :func:`read_lidar`.
        faces: ``(F,)`` shapely polygons in the tiles' coordinates.
    """
    if len(faces) == 0:
        return []
    inner = shrunk(faces)
    x0, y0, x1, y1 = shapely.total_bounds(faces)
    x0, y0, x1, y1 = x0 - 2 * CELL, y0 - 2 * CELL, x1 + 2 * CELL, y1 + 2 * CELL
    ground = np.full((int((y1 - y0) / CELL) + 1, int((x1 - x0) / CELL) + 1), np.inf)
    found = []
    for header in headers:
        for points in progress(iter_points(header.path, ['classification']), header.path.name, unit='chunk'):
            x, y, z = points.xyz.T
            codes = points.fields['classification']
            keep = (x >= x0) & (x < x1) & (y >= y0) & (y < y1) & ~np.isin(codes, NOISE)
            xyz, codes = points.xyz[keep], codes[keep]
            np.minimum.at(ground, (((xyz[:, 1] - y0) / CELL).astype(int), ((xyz[:, 0] - x0) / CELL).astype(int)),
                          xyz[:, 2])
            roof = np.isin(codes, (BUILDING, *UNCLASSIFIED))
            xyz, codes = xyz[roof], codes[roof]
            face, point = shapely.STRtree(shapely.points(xyz[:, :2])).query(inner, predicate='contains')
            found.append((face, xyz[point], codes[point] == BUILDING))
    face, xyz, building = (np.concatenate(part) for part in zip(*found, strict=True))
    lowest = minimum_filter(ground, 3, mode='nearest')
    lowest = lowest[((xyz[:, 1] - y0) / CELL).astype(int), ((xyz[:, 0] - x0) / CELL).astype(int)]
    few = np.bincount(face[building], minlength=len(faces)) < ENOUGH
    keep = building | (few[face] & (xyz[:, 2] > lowest + HIGH))
    face, xyz = face[keep], xyz[keep]
    order = np.argsort(face, kind='stable')
    bounds = np.searchsorted(face[order], np.arange(len(faces) + 1))
    return [xyz[order[start:stop]] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]


def shrunk(faces: np.ndarray) -> np.ndarray:
    """Return the faces less a border of :data:`SHRINK` metres, or of a quarter of their width where that is less."""
    width = 2 * shapely.area(faces) / np.maximum(shapely.length(faces), 1e-9)
    inner = shapely.buffer(faces, -np.minimum(SHRINK, width / 4), join_style='mitre')
    return np.where(shapely.is_empty(inner), faces, inner)


def _same(code: str, crs: CRS) -> bool:
    """Say whether two CRS have the same plane, whatever their heights refer to."""
    try:
        other, crs = _plane(CRS.from_user_input(code)), _plane(crs)
    except CRSError:
        return False
    if other == crs:
        return True
    mine, theirs = crs.to_epsg(confidence_threshold=25), other.to_epsg()
    return mine is not None and mine == theirs


def _plane(crs: CRS) -> CRS:
    """Return the horizontal part of a compound CRS (EPSG:2154 of EPSG:5698), and any other as it is."""
    parts = crs.to_dict(projjson=True)
    return CRS.from_user_input(json.dumps(parts['components'][0])) if parts.get('type') == 'CompoundCRS' else crs
