"""Where an image lies on the ground: coordinate system, metres a pixel, box in degrees."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from projects.engine.errors import UserError
from projects.geo.raster import open_raster
from projects.roofline.geometry.place import check_transform, name_of, warped_points

WGS84 = CRS.from_epsg(4326)
SEMI_MAJOR, ECCENTRICITY2 = 6378137.0, 6.69437999014e-3


@dataclass(frozen=True)
class Georeference:
    """Where an image lies.

    Args:
        transform: From pixels (x, y) to the coordinates of ``crs``.
        crs: The coordinate system.
        size: (height, width) in pixels.
    """

    transform: Affine
    crs: CRS
    size: tuple[int, int]


def georeference(path: Path, crs: CRS | None) -> Georeference:
    """Return where an image lies: from a GeoTIFF, or from the world file beside a picture.

    Args:
        path: The image.
        crs: For images that do not name theirs (a world file never does).

    Raises:
        UserError: The image is not georeferenced, by control points only, or has no CRS; its geotransform cannot be
            inverted, or nothing leads from its CRS to longitude and latitude.
    """
    with open_raster(path) as dataset:
        transform, found, size = dataset.transform, dataset.crs, (dataset.height, dataset.width)
    if transform.is_identity:
        raise UserError(f'{path}: expected a GeoTIFF or a world file beside the image, found no georeference')
    if (found or crs) is None:
        raise UserError(f'{path}: expected a coordinate system, found none: name it, --crs EPSG:25832')
    frame = Georeference(check_transform(transform, path), found or crs, size)
    ground_corners(frame, f'{path}: ')
    return frame


def ground_of_pixels(frame: Georeference) -> np.ndarray:
    """Return (2, 2): metres to the east and north for a step of one pixel in x and in y, at the middle of a frame.

    True metres and true north on the ellipsoid, whatever the coordinate system: Web Mercator's metres are none, and
    degrees of longitude are shorter than those of latitude.
    """
    height, width = frame.size
    centre = np.array([width / 2, height / 2])
    points = centre + np.array([[0.0, 0.0], [16.0, 0.0], [0.0, 16.0]])
    degrees = warped(applied(frame.transform, points), frame.crs, WGS84)
    steps = np.radians((degrees[1:] - degrees[0]) / 16.0)  # (2, 2): rows are x and y
    sine2 = math.sin(math.radians(degrees[0, 1])) ** 2
    normal = SEMI_MAJOR / math.sqrt(1 - ECCENTRICITY2 * sine2)
    meridian = normal * (1 - ECCENTRICITY2) / (1 - ECCENTRICITY2 * sine2)
    return (steps * [normal * math.cos(math.radians(degrees[0, 1])), meridian]).T


def utm_zone(longitude: float, latitude: float) -> CRS:
    """Return the UTM zone of a place, by the six-degree rule."""
    zone = int((longitude + 180) // 6) % 60 + 1
    return CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)


def in_area_of_use(degrees: np.ndarray, crs: CRS) -> np.ndarray | None:
    """Return (N,) bool: which points lie where a coordinate system is meant to be used, by the EPSG registry.

    Args:
        degrees: (N, 2) longitude and latitude.
        crs: The coordinate system.

    Returns:
        None where it does not say (own WKT).
    """
    boxes = re.findall(r'BBOX\[([-+.\deE]+),([-+.\deE]+),([-+.\deE]+),([-+.\deE]+)\]', crs.to_wkt(version='WKT2_2019'))
    if not boxes:
        return None
    longitude, latitude = degrees.T
    inside = np.zeros(len(degrees), bool)
    for box in boxes:
        south, west, north, east = map(float, box)
        between = (longitude >= west) & (longitude <= east) if west <= east else (
            (longitude >= west) | (longitude <= east))  # over the antimeridian
        inside |= between & (latitude >= south) & (latitude <= north)
    return inside


def ground_corners(frame: Georeference, place: str = '') -> np.ndarray:
    """Return the corners of a frame, (4, 2) longitude and latitude; ``place`` as in :func:`warped`."""
    height, width = frame.size
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    return warped(applied(frame.transform, corners), frame.crs, WGS84, place)


def applied(transform: Affine, points: np.ndarray) -> np.ndarray:
    """Return points (N, 2) after an affine map."""
    x, y = points[:, 0], points[:, 1]
    return np.stack([transform.a * x + transform.b * y + transform.c,
                     transform.d * x + transform.e * y + transform.f], axis=1)


def warped(points: np.ndarray, source: CRS, target: CRS, place: str = '') -> np.ndarray:
    """Return points (N, 2), x and y or longitude and latitude, in another coordinate system.

    Args:
        points: To convert.
        source, target: From which and to which coordinate system.
        place: What the message begins with, as ``'FILE: '``.

    Raises:
        UserError: Nothing leads from one to the other: a local plane, another planet, a projection without inverse.
    """
    if source == target:
        return np.asarray(points, np.float64)
    found = warped_points(points, source, target)
    if found is None:
        raise UserError(f'{place}CRS: expected a way from {name_of(source)} to {name_of(target)}, found none')
    return found
