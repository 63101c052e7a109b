"""From images of any size and a network to roofs as vectors: the one function behind tools/roofline/vectorize.py."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from projects.engine.errors import UserError
from projects.engine.files import atomic_path
from projects.geo.point_clouds import PointHeader
from projects.geo.prediction import check_targets, find_inputs
from projects.geo.raster import check_bands
from projects.geo.sources import Source, open_source
from projects.roofline.geometry.place import Place, name_of, place_of, read_crs, snap_pixels
from projects.roofline.vectorizing.geojson import write_geojson
from projects.roofline.vectorizing.geopackage import write_geopackage
from projects.roofline.vectorizing.heights import SOURCES, fit_planes, junction_heights
from projects.roofline.vectorizing.merging import merge_tiles
from projects.roofline.vectorizing.obj import write_obj
from projects.roofline.vectorizing.roof_plan import RoofPlan
from projects.roofline.vectorizing.roof_points import points_of_faces, read_lidar, tiles_with_points
from projects.roofline.vectorizing.tiles import PredictTiles, Tiling, check_tiling, predict_tiles

SUFFIXES = ('.geojson', '.gpkg')
RESOLUTIONS = 1.25  # a training's and an image's may differ by this factor


@dataclass(frozen=True)
class VectorOptions:
    """What to make of the network's lines.

    Attributes:
        tiling: see :class:`projects.roofline.vectorizing.tiles.Tiling`.
        snap: ``3px``, ``0.5m`` or a bare number, see :func:`projects.roofline.geometry.place.snap_pixels`.
        lidar: LAS or LAZ tiles, which give heights.
        obj: also write this OBJ file; needs ``lidar``.
        pixels: GeoJSON in pixels.
        crs: ``EPSG:NUMBER`` of images with a world file or geotransform, but without a CRS.
        bands, value_range: what the network sees of the file, see :func:`projects.geo.raster.read_image`.
        overwrite: replace existing outputs; inputs never.
    """

    tiling: Tiling = field(default_factory=Tiling)
    snap: str = '5px'
    lidar: Sequence[str | Path] = ()
    obj: str | Path | None = None
    pixels: bool = False
    crs: str | None = None
    bands: Sequence[int] = (1, 2, 3)
    value_range: tuple[float, float] | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Vectorized:
    """What became of one image: numbers of things written, ``heights`` of its junctions by source, warnings."""

    source: Path
    tiles: int
    lines: int
    faces: int
    buildings: int
    junctions: int
    seconds: float
    heights: dict[str, int] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Job:
    """An image that was looked at before the first is predicted."""

    path: Path
    place: Place
    snap: float
    size: tuple[int, int]  # height, width
    headers: tuple[PointHeader, ...]
    warnings: tuple[str, ...]


def vectorize(
    predict: PredictTiles | Callable[[], PredictTiles],
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    options: VectorOptions | None = None,
    lazy: bool = False,
) -> list[Vectorized]:
    """Vectorize the roofs of images into one file (with ``obj`` two), written whole or not at all.

    Everything that can be wrong with files and options is found before the first image is predicted.

    Args:
        predict: the network, see :data:`projects.roofline.vectorizing.tiles.PredictTiles`. Where it has an attribute
            ``resolution``, metres a pixel of its training images, images of others are warned about.
        inputs: images, GeoTIFFs, or folders of them.
        out: ``.geojson`` (longitude and latitude) or ``.gpkg`` (the images' CRS; layers lines, faces, junctions).
        options: default :class:`VectorOptions`.
        lazy: ``predict`` is a function that loads the network, called once all is checked.

    Returns:
        One :class:`Vectorized` an image, in order.

    Raises:
        UserError: see :func:`plan_images`; an unreadable image or LiDAR tile; GeoJSON of an image without CRS.
    """
    options = options or VectorOptions()
    out = Path(out)
    jobs = plan_images(inputs, out, options)
    predict = predict() if lazy else predict
    trained = getattr(predict, 'resolution', None)
    plans, results = [], []
    for job in jobs:
        start = time.monotonic()
        with open_source(job.path, list(options.bands), options.value_range) as source:
            plan, tiles = plan_of(predict, source, job.place, job.snap, options.tiling)
        if job.headers:
            plan = with_heights(plan, job.headers)
        plans.append(plan)
        results.append(Vectorized(
            job.path, tiles, len(plan.wireframe.lines), len(plan.faces), int(plan.faces.buildings.max(initial=-1)) + 1,
            len(plan.wireframe.junctions), time.monotonic() - start, _height_sources(plan),
            (*job.warnings, *_other_resolution(job, trained))))
    if options.obj is None:
        _write(out, plans, options.pixels)
    else:
        with atomic_path(options.obj) as temporary:  # both files or none
            left_out = write_obj(temporary, plans)
            _write(out, plans, options.pixels)
        if left_out:
            results[-1] = replace(results[-1], warnings=(*results[-1].warnings, (
                f'{options.obj}: {left_out} faces and lines are left out, since no laser point gives them a height')))
    return results


def _write(out: Path, plans: Sequence[RoofPlan], pixels: bool) -> None:
    if out.suffix.lower() == '.gpkg':
        write_geopackage(out, plans)
    else:
        write_geojson(out, plans, pixels)


def vectorize_checkpoint(config: str | Path, checkpoint: str | Path, inputs: Sequence[str | Path], out: str | Path,
                         options: VectorOptions | None = None, device: str | None = None, amp: bool = False,
                         cfg_options: dict[str, Any] | None = None) -> list[Vectorized]:
    """:func:`vectorize` with the network of a config and a checkpoint; raises :class:`UserError` also for these."""

    def load() -> PredictTiles:
        from projects.roofline.vectorizing.prediction import load_predictor

        return load_predictor(config, checkpoint, device=device, amp=amp, cfg_options=cfg_options)

    return vectorize(load, inputs, out, options, lazy=True)


def plan_images(inputs: str | Path | Sequence[str | Path], out: Path, options: VectorOptions) -> list[_Job]:
    """Look at all images and options before the first image is predicted.

    Raises:
        UserError: a wrong suffix or option; an output that exists, or is an input; images of several CRS for one
            GeoPackage; a snapping tolerance in degrees; LiDAR in another CRS or elsewhere; no CRS for GeoJSON.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f'--out {out}: expected a file {" or ".join(SUFFIXES)}')
    if options.pixels and out.suffix.lower() != '.geojson':
        raise UserError(f'--pixels: expected .geojson, found {out}: a GeoPackage of images without place is in pixels')
    if options.obj is not None and not options.lidar:
        raise UserError(f'--obj {options.obj}: expected --lidar, which gives the heights')
    if options.obj is not None and Path(options.obj).suffix.lower() != '.obj':
        raise UserError(f'--obj {options.obj}: expected a file .obj')
    check_tiling(options.tiling)
    check_bands(options.bands)
    if len(options.bands) != 3:
        raise UserError(f'--bands: expected three, red, green and blue, found {tuple(options.bands)}')
    crs = None if options.crs is None else read_crs(options.crs)
    paths = find_inputs(inputs)
    for target in (out, *([Path(options.obj)] if options.obj is not None else [])):
        sources = [*paths, *map(Path, options.lidar)]
        check_targets([(sources[0], target)], target.parent, options.overwrite)
        if target.resolve() in {source.resolve() for source in sources}:
            raise UserError(f'{target}: is an input and would be replaced: choose another file')
    _, empty = tiles_with_points(options.lidar)
    jobs = [_look(path, out, options, crs) for path in paths]
    told = tuple(f'{path}: --lidar: has no points: left out' for path in empty)
    jobs[0] = replace(jobs[0], warnings=(*told, *jobs[0].warnings))
    return _checked(jobs, out, options)


def _look(path: Path, out: Path, options: VectorOptions, crs: Any) -> _Job:
    with open_source(path, list(options.bands), options.value_range) as source:
        place = place_of(source, crs)
        if out.suffix.lower() == '.geojson' and not options.pixels and place.crs is None:
            raise UserError(f'{path}: expected an image with a CRS, since GeoJSON is longitude and latitude: write '
                            '.gpkg, or give --crs EPSG:NUMBER where a world file places it, or --pixels')
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]]) * [source.width, source.height]
        if out.suffix.lower() == '.geojson' and not options.pixels and place.degrees(corners) is None:
            raise UserError(f'{path}: expected a CRS that leads to longitude and latitude, which GeoJSON is in, found '
                            f'{name_of(place.crs)}, which does not: write .gpkg, or --pixels')
        size = source.height, source.width
        headers = read_lidar(options.lidar, place, path, size) if options.lidar else []
        warnings = list(_warnings(source, place, options, headers))
        return _Job(path, place, snap_pixels(options.snap, place, path), size, tuple(headers), tuple(warnings))


def _warnings(source: Source, place: Place, options: VectorOptions, headers: Sequence[PointHeader]) -> list[str]:
    found = []
    if place.transform is None and not options.pixels:
        placed = ', and ground control points are not used' if source.gcps else ''
        found.append(f'{source.path}: no georeference{placed}: coordinates are pixels, x to the right, y down')
    elif place.crs is None and place.transform is not None:
        found.append(f'{source.path}: no CRS: coordinates are those of its world file or geotransform (--crs names it)')
    found += [f'{header.path}: names no CRS: taken for {name_of(place.crs)}' for header in headers
              if header.crs is None]
    return found


def _other_resolution(job: _Job, trained: float | None) -> list[str]:
    """Return a warning where an image's pixels are of another size than those that the network was trained on."""
    if trained is None:
        return []
    across, down = job.place.pixel_sides(job.size)
    found = (across * down)**0.5
    if not 0 < found < float('inf'):  # nothing says how large they are
        return []
    if max(found / trained, trained / found) <= RESOLUTIONS * (1 + 1e-9):
        return []
    t = job.place.transform
    wide, high = (float(np.hypot(*step)) * trained / side for step, side in (((t.a, t.d), across), ((t.b, t.e), down)))
    return [f'{job.path}: expected pixels of about {trained:.3g} m, which the network was trained at, found '
            f'{found:.3g} m: roofs may be missed, resample the image first, for example with gdalwarp -tr {wide:.6g} '
            f'{high:.6g} -r cubic']


def _checked(jobs: list[_Job], out: Path, options: VectorOptions) -> list[_Job]:
    one = jobs[0]
    for job in jobs if out.suffix.lower() == '.gpkg' or options.obj is not None else ():
        if job.place.crs != one.place.crs or (job.place.transform is None) != (one.place.transform is None):
            raise UserError(f'{job.path}: expected the CRS of {one.path} ({_placed(one.place)}), found '
                            f'{_placed(job.place)}: one file holds one CRS, vectorize them apart')
    return jobs


def _placed(place: Place) -> str:
    return 'pixels' if place.transform is None else name_of(place.crs)


def plan_of(predict: PredictTiles, source: Source, place: Place, snap: float, tiling: Tiling) -> tuple[RoofPlan, int]:
    """Predict, merge and clean one open image; return its plan without heights and the number of tiles."""
    tiles = predict_tiles(predict, source, tiling)
    frame = merge_tiles(tiles, (source.height, source.width), snap)
    return RoofPlan.of(source.path.name, frame, place), len(tiles)


def with_heights(plan: RoofPlan, headers: Sequence[PointHeader]) -> RoofPlan:
    """Give a plan on a plane in metres heights from LiDAR tiles, see :mod:`projects.roofline.vectorizing.heights`."""
    ground = plan.place.ground(plan.wireframe.junctions)
    polygons = np.array([shapely.Polygon(ground[list(outer)], [ground[list(hole)] for hole in holes])
                         for outer, *holes in plan.faces.rings], dtype=object)
    metric = ground * plan.place.metres
    points = [xyz * [plan.place.metres, plan.place.metres, 1.0] for xyz in points_of_faces(headers, polygons)]
    planes = fit_planes(plan.faces, metric, points)
    return replace(plan, heights=junction_heights(plan.faces, metric, plan.wireframe.lines, planes))


def _height_sources(plan: RoofPlan) -> dict[str, int] | None:
    if plan.heights is None:
        return None
    return dict(zip(SOURCES, np.bincount(plan.heights.sources, minlength=len(SOURCES)).tolist(), strict=True))
