"""Where the pixels of an image lie on the ground: geotransform, world file, units, and tolerances in them."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio.warp
from affine import Affine
from rasterio._err import CPLE_BaseError  # what rasterio.warp lets out; no public name
from rasterio.crs import CRS

from projects.engine.errors import UserError
from projects.geo.sources import Source
from projects.geo.vectors import WGS84, equal_area

SMALLEST_METRES, SMALLEST_PIXELS = 1e-3, 1e-2  # of a snapping tolerance: what is below was meant in degrees
LARGEST_PIXELS = 100.0


@dataclass(frozen=True, eq=False)
class Place:
    """Pixels to ground.

    Attributes:
        transform: pixel (x, y), corner origin, to ground coordinates; None for an image that has none.
        crs: of the ground coordinates; None where nothing says.
    """

    transform: Affine | None = None
    crs: CRS | None = None

    def ground(self, xy: np.ndarray) -> np.ndarray:
        """From pixels ``(N, 2)`` to ground coordinates; pixels stay pixels without a transform."""
        if self.transform is None:
            return np.asarray(xy, np.float64)
        t = self.transform
        return np.stack([t.a * xy[:, 0] + t.b * xy[:, 1] + t.c, t.d * xy[:, 0] + t.e * xy[:, 1] + t.f], axis=1)

    def degrees(self, xy: np.ndarray) -> np.ndarray | None:
        """From pixels ``(N, 2)`` to WGS 84 longitude and latitude in degrees; None where no CRS leads there."""
        if self.crs is None or self.transform is None or not (self.crs.is_projected or self.crs.is_geographic):
            return None
        ground = self.ground(xy)
        if len(ground) == 0:
            return ground
        return warped_points(ground, self.crs, CRS.from_epsg(4326))

    @property
    def metres(self) -> float | None:
        """Metres in a unit of the ground plane; None where that is no plane in a known unit, or a distorted one."""
        if self.crs is None or not self.crs.is_projected or self.crs.to_epsg() == 3857:
            return None
        return float(self.crs.linear_units_factor[1])

    def pixel_size(self) -> float | None:
        """Metres a pixel (the root of its area), None where :attr:`metres` is."""
        if self.metres is None or self.transform is None:
            return None
        return float(np.sqrt(abs(self.transform.determinant))) * self.metres

    def pixel_sides(self, size: tuple[int, int]) -> tuple[float, float]:
        """Return width and height in metres of the pixel amid an image of ``size`` (height, width), see `lengths`."""
        height, width = size
        middle = np.array([width / 2, height / 2])
        across, down = self.lengths(middle + np.array([[[-0.5, 0], [0.5, 0]], [[0, -0.5], [0, 0.5]]])).tolist()
        return across, down

    def lengths(self, segments: np.ndarray) -> np.ndarray:
        """Return the lengths in metres of segments ``(M, 2, 2)`` in pixels; NaN where nothing tells.

        On a plane in its own metric (the projection's distortion stays in); on degrees and web Mercator by the radii
        of curvature of WGS 84 at the middle of each segment.
        """
        flat = segments.reshape(-1, 2)
        if self.metres is not None and self.transform is not None:
            ends = self.ground(flat).reshape(-1, 2, 2)
            return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) * self.metres
        degrees = self.degrees(flat)
        if degrees is None:
            return np.full(len(segments), np.nan)
        ends = np.radians(degrees).reshape(-1, 2, 2)
        a, inverse_flattening = WGS84
        e2 = (2 - 1 / inverse_flattening) / inverse_flattening
        middle = ends[:, :, 1].mean(axis=1)
        root = 1 - e2 * np.sin(middle)**2
        east = (ends[:, 1, 0] - ends[:, 0, 0]) * np.cos(middle) * a / np.sqrt(root)
        north = (ends[:, 1, 1] - ends[:, 0, 1]) * a * (1 - e2) / root**1.5
        return np.hypot(east, north)

    def areas(self, rings: list[list[np.ndarray]]) -> np.ndarray:
        """Return the areas in square metres of faces given by their rings ``(n, 2)`` in pixels, holes behind."""
        to_plane = equal_area(self.crs)
        if to_plane is None or self.transform is None:
            return np.full(len(rings), np.nan)
        return np.array([ring_area([to_plane(self.ground(ring)) for ring in face]) for face in rings])


def ring_area(rings: list[np.ndarray]) -> float:
    """Return the area of the first ring ``(n, 2)`` less those of the others."""
    found = []
    for ring in rings:
        x, y = (ring - ring[0]).T
        found.append(0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))))
    return found[0] - sum(found[1:])


def place_of(source: Source, crs: CRS | None = None) -> Place:
    """Return where an image lies: by its geotransform, or by a world file beside it.

    Args:
        source: an open image.
        crs: for an image that names none.

    Raises:
        UserError: a damaged world file, projection file or geotransform; a CRS for an image that has another.
    """
    transform, own = None, source.crs
    if source.transform is not None and source.transform != Affine.identity():
        transform = check_transform(source.transform, source.path)
    if transform is None and source.is_picture:
        transform = read_world_file(source.path)
        own = read_projection(source.path) if transform is not None else None
    if transform is None:
        return Place()
    if crs is not None and own is not None and own != crs:
        raise UserError(f'{source.path}: --crs: expected {name_of(own)}, which the image has, found {name_of(crs)}')
    return Place(transform, own or crs)


def warped_points(points: np.ndarray, source: CRS, target: CRS) -> np.ndarray | None:
    """Convert points ``(N, 2)`` between coordinate systems; None where nothing leads from one to the other.

    So from a local plane, another planet, a projection without inverse, or places outside of what it can tell.
    """
    try:
        x, y = rasterio.warp.transform(source, target, points[:, 0].tolist(), points[:, 1].tolist())
    except CPLE_BaseError:
        return None
    return np.stack([x, y], axis=1)


def read_crs(text: str, place: str = '--crs') -> CRS:
    """Read ``EPSG:NUMBER`` or WKT.

    Args:
        text: Of the CRS.
        place: Where it stands, for the message: a flag, or file and key.

    Raises:
        UserError: it is neither.
    """
    crs = _parsed(text)
    if crs is None:
        raise UserError(f'{place}: expected a CRS like EPSG:2154, found {text!r}')
    return crs


def _parsed(text: str) -> CRS | None:
    try:
        crs = CRS.from_user_input(text)
        crs.to_wkt()  # fails for a unit of length 0, which is read without a word
    except (ValueError, TypeError):  # CRSError is a ValueError; EPSG:x gives a plain one, a JSON list a TypeError
        return None
    return crs


def check_transform(transform: Affine, path: Path) -> Affine:
    """Return the geotransform of an image; raise :class:`UserError` where it leads nowhere."""
    a, b, c, d, e, f = tuple(transform)[:6]
    if not np.isfinite([a, b, c, d, e, f]).all() or a * e == b * d:
        raise UserError(f'{path}: geotransform: expected an invertible transform, found {a:g} {b:g} {c:g} {d:g} {e:g} '
                        f'{f:g}')
    return transform


def name_of(crs: CRS | None) -> str:
    """Return a short name of a CRS for messages."""
    if crs is None:
        return 'no CRS'
    code = crs.to_epsg()
    return f'EPSG:{code}' if code else (re.match(r'\w+\["([^"]*)"', crs.to_wkt()) or ['', 'a CRS without number'])[1]


def world_file_of(path: Path) -> Path | None:
    """Return the world file beside an image: NAME.pgw for .png, .jgw for .jpg, NAME.pngw, NAME.wld."""
    ext = path.suffix[1:].lower()
    names = {f'{path.stem}.{suffix}'.lower() for suffix in (f'{ext[:1]}{ext[-1:]}w', f'{ext}w', 'wld')}
    found = [file for file in path.parent.iterdir() if file.name.lower() in names]
    exact = [file for file in found if file.stem == path.stem]
    return min(exact or found, default=None)


def read_world_file(path: Path) -> Affine | None:
    """Return the transform (corner origin) of the world file of an image, None where there is none.

    Raises:
        UserError: the file does not hold six numbers, or they make no invertible transform.
    """
    file = world_file_of(Path(path))
    if file is None:
        return None
    try:
        a, d, b, e, c, f = (float(line.replace(',', '.')) for line in file.read_text(encoding='ascii').split())
    except (ValueError, OSError) as error:
        raise UserError(f'{file}: expected the six numbers of a world file, found other text') from error
    if not np.isfinite([a, b, c, d, e, f]).all() or a * e == b * d:
        raise UserError(f'{file}: expected an invertible transform, found {a:g} {d:g} {b:g} {e:g}')
    return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)  # a world file names the middle of the pixel


def read_projection(path: Path) -> CRS | None:
    """Return the CRS of ``NAME.prj`` beside an image, None where there is none.

    Raises:
        UserError: the file does not hold a CRS.
    """
    file = Path(path).with_suffix('.prj')
    if not file.is_file():
        return None
    try:
        crs = _parsed(file.read_text(encoding='utf-8', errors='replace').strip())
    except OSError as error:
        raise UserError(f'{file}: expected a CRS in WKT, found {error.strerror}') from error
    if crs is None:
        raise UserError(f'{file}: expected a CRS in WKT, found other text')
    return crs


def snap_pixels(text: str, place: Place, path: str | Path) -> float:
    """Return a snapping tolerance in pixels.

    Args:
        text: ``3px`` (pixels), ``0.5m`` (metres), or a bare number: metres where the image lies on a plane in
            metres, pixels where it has no place at all.
        place: of the image.
        path: of the image, for messages.

    Raises:
        UserError: no positive number; metres or a bare number for an image in degrees; a value so small that it must
            be meant in degrees; more than 100 pixels.
    """
    found = re.fullmatch(r'\s*([-+\d.eE]+)\s*(px|m)?\s*', text)
    try:
        value, unit = float(found[1]), found[2]
    except (TypeError, ValueError):
        raise UserError(f'--snap: expected pixels like 3px or metres like 0.5m, found {text!r}') from None
    if not (np.isfinite(value) and value > 0):
        raise UserError(f'--snap: expected more than 0, found {text!r}')
    if unit is None and place.transform is None:
        unit = 'px'
    if unit == 'px':
        pixels = value
    elif place.pixel_size() is None:
        where = 'no metres' if place.transform is None else f'coordinates of {name_of(place.crs)}'
        raise UserError(f'--snap {text}: expected pixels (3px) for {path}, which has {where}: a tolerance in degrees '
                        'or unknown units is none in metres')
    else:
        pixels = value / place.pixel_size()
        if value < SMALLEST_METRES:
            raise UserError(f'--snap {text}: expected at least {SMALLEST_METRES:g} m, found a value that looks like '
                            f'degrees: {path} is in metres ({name_of(place.crs)}), give 0.5m or 3px')
    if pixels < SMALLEST_PIXELS:
        raise UserError(f'--snap {text}: expected at least {SMALLEST_PIXELS:g} px, found {pixels:.2g} px for {path}: '
                        'a value that looks like degrees, give 3px')
    if pixels > LARGEST_PIXELS:
        raise UserError(f'--snap {text}: expected at most {LARGEST_PIXELS:g} px, found {pixels:.4g} px for {path}')
    return pixels
