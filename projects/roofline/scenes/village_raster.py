"""A village as one orthophoto with all its roof lines and, on demand, as LiDAR over the same ground."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.roofline.annotations import IMAGE_FOLDER, Annotation, write_annotations
from projects.roofline.graph import RoofGraph
from projects.roofline.scenes.output_folder import LIDAR_FOLDER, RASTER_NAME, made_beside
from projects.roofline.scenes.raster_files import place_of, write_geotiff
from projects.roofline.scenes.village import Bounds, village_graph
from projects.roofline.scenes.windows import rounded
from projects.scenes.files import CRS, draw
from projects.scenes.lidar import MAX_DENSITY, MIN_DENSITY, Scanner
from projects.scenes.lidar_files import write_lidar_tiles
from projects.scenes.render import MAX_RESOLUTION, MIN_RESOLUTION, SUNS, Renderer
from projects.scenes.scene import MAX_EXTENT, Scene, make_scene
from projects.scenes.yard_trees import with_yard_trees

_VILLAGE = 600.0  # metres a side that a smaller raster is cut from: below it, villages are hamlets
_TEN = 10.0  # names of LiDAR tiles count in tens of metres


@dataclass(frozen=True, eq=False)
class VillageRaster:
    """What :func:`village_raster` made.

    Args:
        raster: The GeoTIFF.  lidar: The LAZ tile, or None.
        scene, bounds: What it shows, and where, scene metres.  graph: Its roof lines, in pixels.
        seconds: That it took.
    """

    raster: Path
    lidar: Path | None
    scene: Scene
    bounds: Bounds
    graph: RoofGraph
    seconds: float


def village_raster(scene_seed: int, extent: float, resolution: float, folder: str | Path, season: str = 'summer',
                   min_visible: float = 0.0, weld: float = 0.5, trees: float = 0.0, lidar: float = 0.0,
                   name: str = RASTER_NAME, overwrite: bool = False) -> VillageRaster:
    """Write `images/NAME.tif` (RGB, EPSG:2154), `annotations.json` (split test) and, on demand, a LAZ tile: all or
    nothing.

    The picture is drawn in blocks. A raster below 600 m a side shows the part of a village of that size with the
    most roofs.

    Args:
        scene_seed: Which village.
        extent: Metres a side, rounded to whole pixels.
        resolution: Metres a pixel.
        folder: New or empty; with ``overwrite`` made roofs there are replaced, once all new ones are written.
        season: `summer`, `autumn` or `spring`.
        min_visible, weld: Of :func:`projects.roofline.scenes.village.village_graph`.
        trees: Share of buildings with trees beside them.
        lidar: Pulses a square metre of a LiDAR tile under IGN's name in ``folder``/lidar that covers the raster and
            reaches out to whole tens of metres; 0: none. All its points are held at once.
        name: Of the raster, without suffix.
        overwrite: Replace made roofs in ``folder``.

    Raises:
        UserError: A value out of range, or a folder with other files in it.
    """
    start = time.monotonic()
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:  # NaN fails too
        raise UserError(f'--resolution: expected {MIN_RESOLUTION:g} to {MAX_RESOLUTION:g} metres, '
                        f'found {resolution:g}')
    if not 10 <= extent <= MAX_EXTENT:
        raise UserError(f'--extent: expected 10 to {MAX_EXTENT:g} metres, found {extent:g}')
    if scene_seed < 0:
        raise UserError(f'--seed: expected 0 or more, found {scene_seed}')
    if season not in SUNS:
        raise UserError(f'--season: expected one of {", ".join(SUNS)}, found {season!r}')
    for flag, value, low, high in (('min-visible', min_visible, 0, 1), ('trees', trees, 0, 1),
                                   ('weld', weld, 1e-3, extent / resolution)):
        if not low <= value <= high:
            raise UserError(f'--{flag}: expected {low:g} to {high:g}, found {value:g}')
    if lidar and not MIN_DENSITY <= lidar <= MAX_DENSITY:
        raise UserError(f'--lidar: expected {MIN_DENSITY:g} to {MAX_DENSITY:g} pulses per square metre, '
                        f'found {lidar:g}')
    folder = Path(folder)
    with made_beside(folder, overwrite, name) as temporary:
        made = _made(temporary, scene_seed, extent, resolution, season, min_visible, weld, trees, lidar, name)
    raster, tile = (path and folder / path.relative_to(temporary) for path in (made.raster, made.lidar))
    return replace(made, raster=raster, lidar=tile, seconds=time.monotonic() - start)


def _made(folder: Path, scene_seed: int, extent: float, resolution: float, season: str, min_visible: float,
          weld: float, trees: float, lidar: float, name: str) -> VillageRaster:
    """Write what :func:`village_raster` writes into a folder that nobody else sees; its seconds are not known."""
    scene = with_yard_trees(make_scene(scene_seed, max(_VILLAGE, extent)), trees)
    pixels = max(1, round(extent / resolution))
    bounds = _built_up(scene, pixels, resolution)
    scanner = Scanner(scene, lidar, season=season) if lidar else None
    image, _ = draw(Renderer(scene, resolution, season), bounds)
    raster = folder / IMAGE_FOLDER / f'{name}.tif'
    transform = place_of(scene.origin, bounds, resolution)
    write_geotiff(raster, image[..., :3], transform)
    del image
    graph = rounded(village_graph(scene, bounds, resolution, min_visible, weld))
    write_annotations(folder, [Annotation(raster.name, pixels, pixels, 'test', graph, resolution, CRS, transform)])
    tile = None if scanner is None else _write_tile(folder / LIDAR_FOLDER, scanner, bounds)
    return VillageRaster(raster, tile, scene, bounds, graph, float('nan'))


def _write_tile(folder: Path, scanner: Scanner, bounds: Bounds) -> Path:
    left, bottom = (float(np.floor(v / _TEN + 1e-9) * _TEN) for v in bounds[:2])
    right, top = (float(np.ceil(v / _TEN - 1e-9) * _TEN) for v in bounds[2:])
    side = max(right - left, top - bottom)
    return write_lidar_tiles(folder, scanner, (left, top - side, left + side, top), side).paths[0]


def _built_up(scene: Scene, pixels: int, resolution: float) -> Bounds:
    """Bounds of the square of ``pixels`` a side with the most roofs, of all that lie around one building."""
    last = [max(0, int(side / resolution + 1e-9) - pixels) for side in scene.extent]
    best, corner = -1.0, (0, 0)
    middles = np.array([b.footprint.mean(axis=0) for b in scene.buildings]).reshape(-1, 2)
    areas = np.array([_area(b.footprint) for b in scene.buildings])
    side = pixels * resolution
    for middle in middles:
        column, row = (int(np.clip(round(m / resolution - pixels / 2), 0, end)) for m, end in zip(middle, last))
        low = np.array([column, row]) * resolution
        here = float(areas[((middles >= low) & (middles < low + side)).all(axis=1)].sum())
        if here > best:
            best, corner = here, (column, row)
    left, bottom = corner[0] * resolution, corner[1] * resolution
    return left, bottom, (corner[0] + pixels) * resolution, (corner[1] + pixels) * resolution


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
