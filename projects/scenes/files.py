"""A village on disk: orthophoto and object tiles as GeoTIFF, and `scene.json` that says what they show.

`DIR/images/tile_<east>_<north>.tif` holds R, G, B, NIR (uint8); `DIR/masks/` under the same names the object ids with
a colour table. The name is the tile's lower left corner in EPSG:2154, rounded down to whole metres.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from projects.engine.errors import UserError
from projects.engine.files import atomic_path, write_json
from projects.engine.progress import progress
from projects.scenes.objects import OBJECTS, PALETTE
from projects.scenes.render import MAX_RESOLUTION, MIN_RESOLUTION, Renderer
from projects.scenes.scene import MAX_EXTENT, MIN_EXTENT, Scene, make_scene

CRS = 'EPSG:2154'
VERSION = 1
MAX_TILES, MIN_SIZE, MAX_SIZE = 10_000, 16, 8192
_BLOCK = 1024  # pixels drawn at once: bounds the memory of a view, whatever the tile's size
_BANDS = ('red', 'green', 'blue', 'near infrared')


@dataclass(frozen=True)
class Village:
    """What :func:`write_village` made: tile names, ground size in metres, seconds, share of pixels per object."""

    folder: Path
    names: tuple[str, ...]
    extent: tuple[float, float]
    seconds: float
    shares: dict[str, float]


def draw(renderer: Renderer, bounds: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 4) and ids (H, W) of ``bounds``, drawn block by block."""
    r = renderer.resolution
    left, bottom, right, top = bounds
    height, width = int(round((top - bottom) / r)), int(round((right - left) / r))
    image, ids = np.empty((height, width, 4), np.uint8), np.empty((height, width), np.uint8)
    for y in range(0, height, _BLOCK):
        for x in range(0, width, _BLOCK):
            y1, x1 = min(y + _BLOCK, height), min(x + _BLOCK, width)
            view = renderer.render((left + x * r, top - y1 * r, left + x1 * r, top - y * r))
            image[y:y1, x:x1], ids[y:y1, x:x1] = view.rgbn, view.ids
    return image, ids


def write_image(path: Path, image: np.ndarray, west: float, north: float, resolution: float) -> None:
    """Write an RGBN tile (H, W, 4) uint8 whose upper left corner is (west, north) in EPSG:2154."""
    profile = _profile(image.shape[:2], 4, west, north, resolution)
    # The fourth band is infrared and no alpha: a reader must not make pixels transparent by it
    profile.update(predictor=2, photometric='RGB', alpha='unspecified')
    with atomic_path(path) as temporary, rasterio.open(temporary, 'w', **profile) as dataset:
        dataset.write(np.moveaxis(image, 2, 0))
        dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        for band, name in enumerate(_BANDS, 1):
            dataset.set_band_description(band, name)


def write_mask(path: Path, ids: np.ndarray, west: float, north: float, resolution: float) -> None:
    """Write object ids (H, W) uint8 with the colour table of objects.PALETTE."""
    profile = _profile(ids.shape, 1, west, north, resolution)
    with atomic_path(path) as temporary, rasterio.open(temporary, 'w', **profile) as dataset:
        dataset.write(ids, 1)
        dataset.write_colormap(1, {OBJECTS[name]: (*PALETTE[name], 255) for name in OBJECTS})
        dataset.set_band_description(1, 'object id')


def _profile(shape: tuple[int, int], count: int, west: float, north: float, resolution: float) -> dict[str, Any]:
    tiled = dict(tiled=True, blockxsize=256, blockysize=256) if min(shape) >= 256 else {}
    return dict(driver='GTiff', dtype='uint8', height=shape[0], width=shape[1], count=count, crs=CRS,
                transform=from_origin(west, north, resolution, resolution), compress='deflate', zlevel=1, **tiled)


def _check(tiles: int, size: int, resolution: float, seed: int) -> tuple[int, int]:
    """Validate the ranges; return columns and rows of the block of tiles."""
    for name, value, low, high in (('tiles', tiles, 1, MAX_TILES), ('size', size, MIN_SIZE, MAX_SIZE),
                                   ('resolution', resolution, MIN_RESOLUTION, MAX_RESOLUTION)):
        if not low <= value <= high:  # NaN fails too
            raise UserError(f'--{name}: expected {low:g} to {high:g}, found {value:g}')
    if seed < 0:
        raise UserError(f'--seed: expected 0 or more, found {seed}')
    ground = size * resolution
    if ground < 1:
        raise UserError(f'--size x --resolution: expected tiles of at least 1 m, found {ground:g} m')
    columns = math.ceil(math.sqrt(tiles))
    rows = math.ceil(tiles / columns)
    for side in (columns * ground, rows * ground):
        if not MIN_EXTENT <= side <= MAX_EXTENT:
            raise UserError(f'--tiles {tiles} --size {size} --resolution {resolution:g}: expected ground of '
                            f'{MIN_EXTENT:g} to {MAX_EXTENT:g} m a side, '
                            f'found {columns * ground:g} x {rows * ground:g} m')
    return columns, rows


def _clear(folder: Path, overwrite: bool) -> None:
    """Make sure that nothing is mixed: an empty folder, or an old village whose own files are removed."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {folder}: expected a folder, found a file')
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(f'--out {folder}: expected an empty folder, found files in it (--overwrite replaces a village)')
    note = folder / 'scene.json'
    try:
        old = [str(tile['name']) for tile in json.loads(note.read_text(encoding='utf-8'))['tiles']]
    except FileNotFoundError:
        raise UserError(f'--out {folder}: expected a village to overwrite, found no scene.json in it') from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f'{note}: expected the scene.json of a village, found something else') from None
    note.unlink()
    for name in old:
        for kind in ('images', 'masks'):
            (folder / kind / Path(name).with_suffix('.tif').name).unlink(missing_ok=True)


def write_village(folder: str | Path, tiles: int, size: int, resolution: float, seed: int, season: str = 'summer',
                  overwrite: bool = False) -> Village:
    """Make the village of ``seed`` and write it as a block of tiles, ceil(sqrt(tiles)) a row, from the north west.

    Args:
        folder: new or empty; with ``overwrite`` an old village there is replaced (other files stay).
        tiles, size: number of tiles, and pixels a side of each.
        resolution: metres per pixel.
        season: `summer`, `autumn` or `spring`.

    Raises:
        UserError: a value out of range, or a folder with files in it.
    """
    start = time.monotonic()
    folder = Path(folder)
    columns, rows = _check(tiles, size, resolution, seed)
    ground = size * resolution
    _clear(folder, overwrite)
    scene = make_scene(seed, (columns * ground, rows * ground))
    renderer = Renderer(scene, resolution, season=season)
    counts = np.zeros(256, np.int64)
    entries = []
    for k in progress(range(tiles), 'village', unit='tile'):
        entries.append(_write_tile(folder, scene, renderer, (k % columns, rows - 1 - k // columns), ground, counts))
    write_json(folder / 'scene.json', {
        'version': VERSION, 'seed': seed, 'season': season, 'size': size, 'resolution': resolution,
        'sun': {'direction': [round(v, 6) for v in renderer.sun]}, 'crs': CRS, 'origin': list(scene.origin),
        'extent': list(scene.extent), 'bands': list(_BANDS), 'objects': OBJECTS,
        'palette': {name: list(colour) for name, colour in PALETTE.items()},
        'counts': {'buildings': len(scene.buildings), 'trees': len(scene.trees), 'cars': len(scene.cars)},
        'tiles': entries,
    })
    shares = {name: float(counts[i] / counts.sum()) for name, i in OBJECTS.items()}
    return Village(folder, tuple(e['name'] for e in entries), scene.extent, time.monotonic() - start, shares)


def _write_tile(folder: Path, scene: Scene, renderer: Renderer, place: tuple[int, int], ground: float,
                counts: np.ndarray) -> dict[str, Any]:
    left, bottom = place[0] * ground, place[1] * ground
    image, ids = draw(renderer, (left, bottom, left + ground, bottom + ground))
    west, south = scene.origin[0] + left, scene.origin[1] + bottom
    name = f'tile_{math.floor(west + 1e-6)}_{math.floor(south + 1e-6)}'
    write_image(folder / 'images' / f'{name}.tif', image, west, south + ground, renderer.resolution)
    write_mask(folder / 'masks' / f'{name}.tif', ids, west, south + ground, renderer.resolution)
    here = np.bincount(ids.ravel(), minlength=256)
    counts += here
    pixels = {key: int(here[i]) for key, i in OBJECTS.items() if here[i]}
    return {'name': name, 'bounds': [west, south, west + ground, south + ground], 'pixels': pixels}
