#!/usr/bin/env python
"""Roof lines of a village of 4,000² pixels, vectorized and read back: from oracle maps, or by a trained network.

    tools/benchmarks/roofline_vectorize.py [--lidar 5]
    tools/benchmarks/roofline_vectorize.py --config CONFIG --checkpoint CHECKPOINT --resolution 0.15 --seed 1

Oracle maps say what cutting into tiles, merging and cleaning cost. A network is given a rendered village that it has
not seen; a true corner counts as found where the file has a junction within 10 px, each for one corner only. Status 1
where an aim is missed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.roofline.wireframe import LINE_SCORE

CORNER, RIDGE, RECALL, ERROR = 1.0, 0.3, 0.8, 3.0  # px, metres; of a network: share within WITHIN, mean px of these
WITHIN = 10.0  # px


def measure(folder: Path, size: int, resolution: float, seed: int, weld: float, maps: bool, window: int,
            overlap: int, density: float = 0.0) -> dict[str, float]:
    """Vectorize the roofs of a village from its true graph, read the GeoPackage back, and return what was measured.

    Args:
        folder: for the raster and the GeoPackage.
        size: pixels a side.
        resolution: metres a pixel.
        seed: which village.
        weld: pixels; true junctions that are closer are one. Maps hold one junction a cell of 4 pixels: 6 px keep
            any two junctions in cells of their own.
        maps: from drawn and decoded maps, else from the clipped graph itself.
        window, overlap: pixels.
        density: LiDAR pulses a square metre, for the variant in three dimensions; 0: none.

    Returns:
        Numbers by name. ``corners_within_1px`` and ``largest_px`` are by coordinates of the file, in EPSG:2154; heights
        are those of the true ends of ridges, each against the nearest end of a line in the file; ends of which
        the picture's border leaves no whole face are only counted.
    """
    from affine import Affine

    from projects.roofline.graph import LINE_TYPES
    from projects.roofline.scenes.village import village_graph
    from projects.roofline.vectorizing.oracle import Oracle, corner_errors, write_position_raster
    from projects.roofline.vectorizing.tiles import Tiling
    from projects.roofline.vectorizing.vectorize import VectorOptions, vectorize
    from projects.roofline.wireframe import Wireframe
    from projects.scenes.lidar import Scanner
    from projects.scenes.lidar_files import write_lidar_tiles
    from projects.scenes.scene import make_scene

    extent = size * resolution
    scene = make_scene(seed, extent)
    graph = village_graph(scene, (0.0, 0.0, extent, extent), resolution, weld=weld)
    if not len(graph.lines):
        raise UserError(f'--seed {seed}: expected a village with roofs on {extent:g} m, found none')
    transform = Affine(resolution, 0, scene.origin[0], 0, -resolution, scene.origin[1] + extent)
    raster, out = folder / 'positions.tif', folder / 'roofs.gpkg'
    write_position_raster(raster, (size, size), transform, 'EPSG:2154')
    tiles: tuple[Path, ...] = ()
    if density:
        tiles = write_lidar_tiles(folder / 'lidar', Scanner(scene, density), (0.0, 0.0, extent, extent), 400.0).paths
    start = time.perf_counter()
    done, = vectorize(Oracle(graph, (size, size), maps), raster, out,
                      VectorOptions(Tiling(window, overlap), lidar=tiles, overwrite=True))
    seconds = time.perf_counter() - start
    ends = shapely.get_coordinates(shapely.from_wkb(pyogrio.raw.read(out, layer='lines')[2]), include_z=True)
    pixels = np.column_stack([(ends[:, 0] - transform.c) / resolution, (transform.f - ends[:, 1]) / resolution])
    junctions, lines = np.unique(np.round(pixels, 6), axis=0, return_inverse=True)
    errors = corner_errors(graph, Wireframe.make(junctions, lines.reshape(-1, 2)))
    found = {'tiles': done.tiles, 'true_corners': len(graph.junctions), 'corners_within_1px': errors.recall(1.0),
             'largest_px': float(errors.distances.max()), 'lines_found': errors.lines_found, 'extra': errors.extra,
             'true_faces': len(graph.faces), 'faces': done.faces, 'seconds': seconds}
    if density:
        ridges = np.unique(graph.lines[graph.types == LINE_TYPES.index('ridge')])
        # roofs that the picture's border cuts are no faces, and without a face there is no plane
        whole = np.isin(ridges, [corner for face in graph.faces for corner in face])
        nearest = cKDTree(pixels).query(graph.junctions[ridges[whole]])[1]
        error = np.abs(ends[nearest, 2] - graph.heights[ridges[whole]])
        if np.isnan(error).all():
            raise UserError(f'--seed {seed}: expected ridges with heights on {extent:g} m, found none of '
                            f'{len(error)}')
        found |= {'ridge_ends_cut': int((~whole).sum()), 'ridge_ends': len(error),
                  'ridge_median_m': float(np.nanmedian(error)), 'ridge_largest_m': float(np.nanmax(error)),
                  'within_0.3m': float((error <= RIDGE).mean()), 'ridge_no_height': int(np.isnan(error).sum())}
    return found


def measure_trained(folder: Path, size: int, resolution: float, seed: int, weld: float, config: Path,
                    checkpoint: Path, window: int, overlap: int, threshold: float, snap: str) -> dict[str, float]:
    """Render a village, vectorize it with a network, read the GeoPackage back, and return what was measured.

    Args:
        folder, size, resolution, seed, weld, window, overlap: see :func:`measure`.
        config, checkpoint: of the network.
        threshold: lines with a lower score are dropped.
        snap: as tools/roofline/vectorize.py takes it.

    Returns:
        Numbers by name; errors in pixels of the corners within 10 px, by coordinates of the file in EPSG:2154.
    """
    from projects.roofline.scenes.village_raster import village_raster
    from projects.roofline.vectorizing.tiles import Tiling
    from projects.roofline.vectorizing.vectorize import VectorOptions, vectorize_checkpoint

    village = village_raster(seed, size * resolution, resolution, folder, weld=weld)
    out = folder / 'roofs.gpkg'
    start = time.perf_counter()
    done, = vectorize_checkpoint(config, checkpoint, village.raster, out,
                                 VectorOptions(Tiling(window, overlap, threshold=threshold), snap=snap))
    seconds = time.perf_counter() - start
    with rasterio.open(village.raster) as raster:
        transform, crs = raster.transform, raster.crs
    meta, _, shapes, _ = pyogrio.raw.read(out, layer='junctions')
    if meta['crs'] != crs.to_string():
        raise RuntimeError(f'{out}: expected {crs.to_string()}, found {meta["crs"]}')
    ground = shapely.get_coordinates(shapely.from_wkb(shapes))
    pixels = np.column_stack([(ground[:, 0] - transform.c) / transform.a, (ground[:, 1] - transform.f) / transform.e])
    errors = matched_errors(village.graph.junctions, pixels)
    return {'tiles': done.tiles, 'true_corners': len(village.graph.junctions),
            'recall_10px': len(errors) / len(village.graph.junctions),
            'mean_error_px': float(errors.mean()) if len(errors) else np.nan,
            'median_error_px': float(np.median(errors)) if len(errors) else np.nan,
            'junctions': len(pixels), 'precision_10px': len(errors) / max(len(pixels), 1),
            'true_lines': len(village.graph.lines), 'lines': done.lines, 'true_faces': len(village.graph.faces),
            'faces': done.faces, 'seconds': seconds}


def matched_errors(true: np.ndarray, found: np.ndarray, within: float = WITHIN) -> np.ndarray:
    """Return the distances of a matching of true and found places (N, 2), (M, 2), one to one and within reach.

    It has as many pairs as any has, and of these the smallest sum of distances.
    """
    near = cKDTree(true).sparse_distance_matrix(cKDTree(found), within, output_type='coo_matrix')
    # a place of its own for each true one that stays alone, dearer than any pair
    cost = np.full((len(true), len(found) + len(true)), 1e3 * within)
    cost[near.row, near.col] = near.data
    rows, columns = linear_sum_assignment(cost)
    chosen = cost[rows, columns]
    return chosen[chosen <= within]


def aims_of(found: dict[str, float]) -> dict[str, bool]:
    """Which aims what :func:`measure` or :func:`measure_trained` found reaches; a NaN misses them."""
    if 'recall_10px' in found:
        return {f'at least {RECALL:g} of the corners within 10 px': found['recall_10px'] >= RECALL,
                f'these {ERROR:g} px off at most in the mean': found['mean_error_px'] <= ERROR}
    aims = {f'every corner within {CORNER:g} px': found['largest_px'] <= CORNER}
    if 'within_0.3m' in found:
        aims[f'ridges within {RIDGE:g} m'] = found['within_0.3m'] == 1.0
    return aims


def check(args: argparse.Namespace) -> None:
    """Refuse flags out of range, and those that would do nothing.

    Raises:
        UserError: naming the flag.
    """
    from projects.roofline.vectorizing.oracle import LARGEST
    from projects.roofline.vectorizing.tiles import Tiling, check_tiling
    from projects.scenes.lidar import MAX_DENSITY, MIN_DENSITY
    from projects.scenes.render import MAX_RESOLUTION, MIN_RESOLUTION
    from projects.scenes.scene import MAX_EXTENT, MIN_EXTENT

    if (args.config is None) != (args.checkpoint is None):
        raise UserError('--config and --checkpoint: expected both or none')
    if args.config and (args.lidar or args.graph):
        raise UserError('--lidar and --graph: expected neither with --config')
    largest = int(MAX_EXTENT / MIN_RESOLUTION) if args.config else LARGEST  # oracles read places in colours
    if not 64 <= args.size <= largest:
        raise UserError(f'--size: expected 64 to {largest} pixels, found {args.size}')
    if not MIN_RESOLUTION <= args.resolution <= MAX_RESOLUTION:  # NaN fails too
        raise UserError(f'--resolution: expected {MIN_RESOLUTION:g} to {MAX_RESOLUTION:g} metres, '
                        f'found {args.resolution:g}')
    if not MIN_EXTENT <= args.size * args.resolution <= MAX_EXTENT:
        raise UserError(f'--size x --resolution: expected {MIN_EXTENT:g} to {MAX_EXTENT:g} metres, '
                        f'found {args.size * args.resolution:g}')
    if args.seed < 0:
        raise UserError(f'--seed: expected 0 or more, found {args.seed}')
    if not 1e-3 <= args.weld <= args.size:
        raise UserError(f'--weld: expected 0.001 to {args.size} pixels, found {args.weld:g}')
    if args.lidar and not MIN_DENSITY <= args.lidar <= MAX_DENSITY:
        raise UserError(f'--lidar: expected 0, or {MIN_DENSITY:g} to {MAX_DENSITY:g} pulses per square metre, '
                        f'found {args.lidar:g}')
    check_tiling(Tiling(args.window, args.overlap, threshold=args.threshold))


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=4000, help='pixels a side (default: 4000)')
    parser.add_argument('--resolution', type=float, default=0.2, help='metres a pixel (default: 0.2)')
    parser.add_argument('--seed', type=int, default=0, help='which village (default: 0)')
    parser.add_argument('--weld', type=float, default=6.0, help='pixels: closer true junctions are one (default: 6)')
    parser.add_argument('--window', type=int, default=512, help='pixels (default: 512)')
    parser.add_argument('--overlap', type=int, default=128, help='pixels (default: 128)')
    parser.add_argument('--lidar', type=float, default=0.0, metavar='DENSITY', help='also heights: pulses a square '
                        'metre (default: 0, none)')
    parser.add_argument('--graph', action='store_true', help='from the clipped graph instead of from maps')
    parser.add_argument('--config', type=Path, help='of a trained network')
    parser.add_argument('--checkpoint', type=Path)
    parser.add_argument('--threshold', type=float, default=LINE_SCORE, help="of the network's lines "
                        '(default: %(default)s)')
    parser.add_argument('--snap', default='5px', help="of the network's ends (default: 5px)")
    args = parser.parse_args()
    check(args)
    with tempfile.TemporaryDirectory() as folder:
        if args.config:
            found = measure_trained(Path(folder), args.size, args.resolution, args.seed, args.weld, args.config,
                                    args.checkpoint, args.window, args.overlap, args.threshold, args.snap)
        else:
            found = measure(Path(folder), args.size, args.resolution, args.seed, args.weld, not args.graph,
                            args.window, args.overlap, args.lidar)
    for name, value in found.items():
        print(f'{name:<20}{value:>12,.4g}' if isinstance(value, float) else f'{name:<20}{value:>12,}')
    aims = aims_of(found)
    for aim, good in aims.items():
        print(f'aim: {aim}: ' + ('reached' if good else 'missed'))
    return 0 if all(aims.values()) else 1


if __name__ == '__main__':
    run(main)
