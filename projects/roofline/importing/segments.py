"""Roof segments as GeoJSON polygons (RID, RID2): georeferenced labels, drawn one by one, made one graph an image.

RID (Krapf et al., RID - Roof Information Dataset, Remote Sensing 2022, 14, 2299): polygons in longitude and latitude
with the properties ``image``, ``azimuth`` (degrees clockwise from south, where the plane looks) and ``slope``. RID2 has
no ``image``: its segments go to the georeferenced images that show them. Everything is snapped in pixels of the image,
never in degrees, whose two axes are not even of one length.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS

from projects.engine.errors import UserError
from projects.roofline.annotations import Annotation
from projects.roofline.geometry.line_types import RIDGE, VALLEY, rise_of, types_from_planes
from projects.roofline.graph import LINE_TYPES, RoofGraph
from projects.roofline.importing.ground import (
    WGS84,
    Georeference,
    applied,
    georeference,
    ground_corners,
    ground_of_pixels,
    in_area_of_use,
    utm_zone,
    warped,
)
from projects.roofline.importing.images import ImageFolder
from projects.roofline.importing.polygons import graph_of_polygons, lost_by_snapping
from projects.roofline.importing.reading import Imported, Reading, listed
from projects.roofline.importing.tolerance import Tolerance

ENOUGH = 10  # lines, before the share of valleys says anything about the azimuths
FLAT = 1e-5  # area over the square of the extent, below which a polygon has none
SWAPPED = 'coordinates look like (latitude, longitude), GeoJSON has longitude first'
LARGEST = 30_000  # pixels a side; beyond, the segments of one image do not belong together


@dataclass(frozen=True)
class SegmentOptions:
    """How segments are read.

    Args:
        snap: Snapping distance.
        resolution: Metres a pixel of the frames of images that are not there.
        margin: Pixels around the segments in such a frame.
        crs: Of images that do not name theirs, and of frames; None: the UTM zone of the segments.
        azimuth_zero: 'south' (RID) or 'north': from where azimuths are counted, clockwise.
    """

    snap: Tolerance = Tolerance(0.3, 'm')
    resolution: float | None = None
    margin: int = 16
    crs: CRS | None = None
    azimuth_zero: str = 'south'


@dataclass(frozen=True, eq=False)
class _Segment:
    rings: list[np.ndarray]  # (K, 2) longitude, latitude; the outer one first
    image: str | None
    azimuth: float | None
    slope: float | None


def read_segments(source: str | Path, images: ImageFolder | None, options: SegmentOptions) -> Reading:
    """Read roof segments.

    Args:
        source: A GeoJSON file. Coordinates are longitude and latitude, or those of its ``crs`` member.
        images: Georeferenced images (GeoTIFF, or world files beside them). None: labels only, each image gets a frame
            of its own around its segments.
        options: How to read.

    Raises:
        UserError: The file is not of that form; latitude and longitude look swapped; images are missing or not
            georeferenced; there are no images and no resolution.
    """
    segments, crs = _read_file(Path(source))
    segments, notes = _with_area(segments, str(source))
    if images is None:
        if crs == WGS84:
            notes += check_order_by_crs(np.concatenate([ring for one in segments for ring in one.rings]), options.crs,
                                        str(source))
        by_image = _by_property(segments, str(source))
        pairs = [_in_frame(name, members, options, str(source)) for name, members in by_image.items()]
        notes.append(f'{source}: labels only: {len(pairs)} annotations without image')
    else:
        pairs, more = _on_images(segments, images, options, str(source))
        notes += more
    found = [image for image, _ in pairs]
    lost, edges = (sum(counts[number] for _, counts in pairs) for number in (0, 1))
    if lost:
        notes.append(f'{source}: --snap: {lost} of {edges} edges of segments lost: shorter than the distance')
    types = np.concatenate([one.annotation.graph.types for one in found]) if found else np.zeros(0, np.uint8)
    ridges, valleys = (int(np.count_nonzero(types == kind)) for kind in (RIDGE, VALLEY))
    if valleys > ridges and valleys >= ENOUGH:
        zero = 'north' if options.azimuth_zero == 'south' else 'south'
        notes.append(f'{source}: {valleys} valleys and {ridges} ridges: the azimuths look counted from {zero}, '
                     f'--azimuth {zero}; or the file has latitude before longitude')
    if len(types):
        notes.append('line types: ' + ', '.join(f'{np.count_nonzero(types == number)} {name}' for number, name
                                                in enumerate(LINE_TYPES) if (types == number).any()))
    return Reading(tuple(found), tuple(notes))


def check_order_by_crs(degrees: np.ndarray, crs: CRS | None, source: str) -> list[str]:
    """Refuse longitude and latitude that fit a coordinate system's area of use only when exchanged.

    Args:
        degrees: (N, 2) longitude and latitude, as a file has them.
        crs: Of ``--crs``; None where it was not given.
        source: The file, for messages.

    Returns:
        A line where the order cannot be checked, or the points lie elsewhere in either order; else nothing.

    Raises:
        UserError: The points are (latitude, longitude).
    """
    (west, south), (east, north) = degrees.min(axis=0), degrees.max(axis=0)
    span = f'longitude {west:.4g} to {east:.4g}, latitude {south:.4g} to {north:.4g}'
    inside, swapped = ((None, None) if crs is None else
                       (in_area_of_use(points, crs) for points in (degrees, degrees[:, ::-1])))
    if inside is None:
        without = 'images or --crs' if crs is None else 'images, or a --crs with an area of use'
        return [f'{source}: the order of longitude and latitude cannot be checked without {without}: found {span}']
    if swapped.all() and not inside.all():
        raise UserError(f'{source}: expected segments in the area of use of --crs {crs.to_string()}, found {span}; '
                        f'{SWAPPED}')
    if not inside.all():
        return [f'{source}: {np.count_nonzero(~inside)} of {len(inside)} corners lie outside the area of use of --crs '
                f'{crs.to_string()}: found {span}']
    if swapped.all():
        return [f'{source}: the order of longitude and latitude cannot be checked: --crs {crs.to_string()} is for both '
                f'orders, found {span}']
    return []


def _with_area(segments: list[_Segment], source: str) -> tuple[list[_Segment], list[str]]:
    """Leave out the segments without area, and say so."""
    kept = []
    for segment in segments:
        rings = [ring - segment.rings[0][0] for ring in segment.rings]
        extent = float(np.ptp(rings[0], axis=0).max())
        area = shapely.area(shapely.make_valid(shapely.Polygon(rings[0], rings[1:])))
        if area > FLAT * extent**2:
            kept.append(segment)
    flat = len(segments) - len(kept)
    if not kept:
        raise UserError(f'{source}: expected segments with an area, found none in {flat}')
    return kept, [f'{source}: {flat} of {len(segments)} segments have no area, left out'] if flat else []


def _hint(segments: list[_Segment], frames: list[Georeference]) -> str:
    """Return what to add to a message where exchanged coordinates lie on an image; '' where they do not."""
    corners = np.concatenate([ring[:, ::-1] for segment in segments for ring in segment.rings])
    shown = any(shapely.contains_xy(shapely.Polygon(ground_corners(frame)), corners).any() for frame in frames)
    return f'; {SWAPPED}' if shown else ''


def _on_images(segments: list[_Segment], images: ImageFolder, options: SegmentOptions,
               source: str) -> tuple[list[tuple[Imported, tuple[int, int]]], list[str]]:
    """Return the segments on the images of a folder, each with its lost edges, and what has to be said."""
    notes: list[str] = []
    if all(segment.image is not None for segment in segments):
        chosen = [(name, images.find(name), members) for name, members in _by_property(segments, source).items()]
        missing = [name for name, path, _ in chosen if path is None]
        if missing:
            raise UserError(f'{images.folder}: expected an image for each annotation, found none for '
                            f'{listed(missing)}; without --images labels are read alone')
        placed = [(path, georeference(path, options.crs), members) for _, path, members in chosen]
        for path, frame, members in placed:
            if not _shown(_outlines(members), frame).any():
                raise UserError(f'{source}: image {path.name}: expected segments on the image, found all of them '
                                f'outside{_hint(members, [frame])}')
        notes += images.note_unused()
    else:
        placed, shown = [], np.zeros(len(segments), bool)
        outlines = _outlines(segments)
        empty, frames = [], []
        for path in images.paths:
            frame = georeference(path, options.crs)
            frames.append(frame)
            over = _shown(outlines, frame)
            shown |= over
            if over.any():
                placed.append((path, frame, [segments[row] for row in np.flatnonzero(over)]))
            else:
                empty.append(path.name)
        if empty:
            notes.append(f'{images.folder}: {len(empty)} images without annotation, {listed(empty)}')
        if not shown.all():
            notes.append(f'{source}: {np.count_nonzero(~shown)} of {len(segments)} segments lie in no image')
        if not placed:
            raise UserError(f'{source}: expected segments on the images in {images.folder}, found none on any'
                            f'{_hint(segments, frames)}')
    return [_imported(path.name, path, frame, members, options, source) for path, frame, members in placed], notes


def _outlines(segments: list[_Segment]) -> np.ndarray:
    """Return the segments (N,) as polygons of longitude and latitude, without their holes."""
    return shapely.make_valid([shapely.Polygon(segment.rings[0]) for segment in segments])


def _shown(outlines: np.ndarray, frame: Georeference) -> np.ndarray:
    """Return which segments (N,) an image shows, if only the inside of one that is larger than the image."""
    return shapely.intersects(outlines, shapely.Polygon(ground_corners(frame)))


def _in_frame(name: str, segments: list[_Segment], options: SegmentOptions,
              source: str) -> tuple[Imported, tuple[int, int]]:
    """Return segments in a frame of their own: north up, in metres, as large as they need."""
    if options.resolution is None:
        raise UserError('--resolution: expected metres a pixel where there are no images, found none')
    places = np.concatenate([ring for segment in segments for ring in segment.rings])
    crs = options.crs or utm_zone(*places.mean(axis=0))
    if not crs.is_projected:
        raise UserError(f'--crs: expected a projected coordinate system in metres for images that are not there, found '
                        f'{crs.to_string()}')
    plane = warped(places, WGS84, crs, '--crs: ')
    step = options.resolution / crs.linear_units_factor[1]
    west, north = plane[:, 0].min() - options.margin * step, plane[:, 1].max() + options.margin * step
    width, height = (int(np.ceil(np.ptp(plane[:, axis]) / step - 1e-6)) + 2 * options.margin for axis in (0, 1))
    if max(width, height) > LARGEST:
        raise UserError(f'{source}: image {name}: expected segments within {LARGEST:,} pixels of '
                        f'{options.resolution:g} m, found {width:,} x {height:,}')
    frame = Georeference(Affine(step, 0.0, west, 0.0, -step, north), crs, (height, width))
    file = name if Path(name).suffix else f'{name}.tif'
    return _imported(file, None, frame, segments, options, source)


def _imported(file: str, path: Path | None, frame: Georeference, segments: list[_Segment], options: SegmentOptions,
              source: str) -> tuple[Imported, tuple[int, int]]:
    """Return segments as an annotation, and how many of their edges snapping lost, of how many."""
    metres = ground_of_pixels(frame)
    resolution = float(math.sqrt(abs(np.linalg.det(metres))))
    to_pixels = ~frame.transform
    polygons = [[applied(to_pixels, warped(ring, WGS84, frame.crs)) for ring in segment.rings] for segment in segments]
    snap = options.snap.pixels(resolution)
    junctions, lines, faces, owners = graph_of_polygons(polygons, snap)
    rises = np.array([rise_of(segments[owner].azimuth, segments[owner].slope, options.azimuth_zero)
                      for owner in owners]).reshape(-1, 2)
    types = types_from_planes(junctions @ metres.T, lines, faces, rises)
    graph = RoofGraph.make(junctions, lines, types, faces)
    graph = graph.clipped(frame.size)
    graph.check(frame.size, f'{source}: image {file}')
    transform = tuple(float(value) for value in tuple(frame.transform)[:6])
    return Imported(
        Annotation(file, frame.size[1], frame.size[0], 'train', graph, resolution, frame.crs.to_string(), transform),
        path, ground_corners(frame)), lost_by_snapping(polygons, snap)


def _by_property(segments: list[_Segment], source: str) -> dict[str, list[_Segment]]:
    by_image: dict[str, list[_Segment]] = {}
    for segment in segments:
        if segment.image is None:
            raise UserError(f'{source}: properties.image: expected the name of an image in every segment, found none; '
                            '--images gives georeferenced images instead')
        by_image.setdefault(segment.image, []).append(segment)
    return dict(sorted(by_image.items(), key=lambda item: (len(item[0]), item[0])))


def _read_file(path: Path) -> tuple[list[_Segment], CRS]:
    """Return the segments of a file, and its coordinate system."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: expected a GeoJSON file, found {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{path}: expected GeoJSON, found {error}') from error
    features = content.get('features') if isinstance(content, dict) else None
    if not isinstance(features, list) or not features:
        raise UserError(f'{path}: features: expected a FeatureCollection of roof segments, found none')
    crs = _crs(content.get('crs'), path)
    return [segment for number, feature in enumerate(features)
            for segment in _read_feature(feature, f'{path}: feature {number}', crs)], crs


def _crs(member: Any, path: Path) -> CRS:
    """Return the coordinate system of a file; the member is of GeoJSON 2008, RFC 7946 has dropped it."""
    if member is None:
        return WGS84
    try:
        found = CRS.from_user_input(member['properties']['name'])
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f'{path}: crs: expected a name like urn:ogc:def:crs:EPSG::25832, found {member!r}') from error
    return WGS84 if found == CRS.from_string('OGC:CRS84') else found


def _read_feature(feature: Any, place: str, crs: CRS) -> list[_Segment]:
    if not isinstance(feature, dict):
        raise UserError(f'{place}: expected an object, found {feature!r:.60}')
    for key in ('properties', 'geometry'):
        if not isinstance(feature.get(key), dict | None):
            raise UserError(f'{place}: {key}: expected an object, found {feature[key]!r:.60}')
    properties, geometry = feature.get('properties') or {}, feature.get('geometry') or {}
    kind, parts = geometry.get('type'), geometry.get('coordinates')
    if kind not in ('Polygon', 'MultiPolygon') or not isinstance(parts, list):
        raise UserError(f'{place}: expected a Polygon or MultiPolygon, found {kind!r:.60}' if kind not in
                        ('Polygon', 'MultiPolygon') else
                        f'{place}: coordinates: expected a list of rings, found {parts!r:.60}')
    image = properties.get('image')
    azimuth, slope = (_degrees(properties.get(key), f'{place}: {key}') for key in ('azimuth', 'slope'))
    segments = []
    for polygon in [parts] if kind == 'Polygon' else parts:
        if not isinstance(polygon, list):
            raise UserError(f'{place}: coordinates: expected a list of rings, found {polygon!r:.60}')
        rings = [_ring(ring, place, crs) for ring in polygon]
        if not rings:
            raise UserError(f'{place}: expected a polygon with a ring, found none')
        segments.append(_Segment(rings, None if image is None else str(image), azimuth, slope))
    return segments


def _degrees(value: Any, place: str) -> float | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 360:
        raise UserError(f'{place}: expected degrees or null, found {value!r}')
    return float(value)


def _ring(ring: Any, place: str, crs: CRS) -> np.ndarray:
    """Return a ring (K, 2) in longitude and latitude."""
    try:
        points = np.array([point[:2] for point in ring], np.float64)
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise UserError(f'{place}: coordinates: expected rings of coordinate pairs, found others') from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(f'{place}: coordinates: expected rings of coordinate pairs, found others')
    if len(points) < 4 or not np.isfinite(points).all():
        raise UserError(f'{place}: expected rings of four points or more, the last equal to the first, found '
                        f'{len(points)}')
    degrees = warped(points, crs, WGS84, f'{place}: ')
    if not np.isfinite(degrees).all():
        raise UserError(f'{place}: coordinates: expected places in {crs.to_string()}, found ({points[0, 0]:g}, '
                        f'{points[0, 1]:g})')
    if crs == WGS84 and (np.abs(degrees) > (180, 90)).any():
        swapped = (np.abs(degrees[:, ::-1]) <= (180, 90)).all()
        raise UserError(f'{place}: expected longitude and latitude, found ({points[0, 0]:g}, {points[0, 1]:g})'
                        + ('; coordinates look like (latitude, longitude)' if swapped else
                           ': metres need a crs member'))
    return degrees
