#!/usr/bin/env python
"""What cutting, merging and cleaning cost: a village of 4,000² pixels, vectorized from oracle maps and read back."""

import tempfile
import time
from pathlib import Path

import numpy as np
import pyogrio.raw
import shapely
from scipy.spatial import cKDTree

from projects.engine.cli import Parser, run


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
        are those of the true ends of ridges, each against the nearest end of a line in the file.
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
        # roofs that the picture's border cuts are no faces
        inner = (np.abs(graph.junctions[ridges] - size / 2) < size / 2 - 1).all(axis=1)
        nearest = cKDTree(pixels).query(graph.junctions[ridges[inner]])[1]
        error = np.abs(ends[nearest, 2] - graph.heights[ridges[inner]])
        found |= {'ridge_ends': len(error), 'ridge_median_m': float(np.nanmedian(error)),
                  'ridge_largest_m': float(np.nanmax(error)), 'within_0.3m': float((error <= 0.3).mean()),
                  'ridge_no_height': int(np.isnan(error).sum())}
    return found


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument('--size', type=int, default=4000, help='pixels a side (default: 4000)')
    parser.add_argument('--resolution', type=float, default=0.2, help='metres a pixel (default: 0.2)')
    parser.add_argument('--seed', type=int, default=0, help='which village (default: 0)')
    parser.add_argument('--weld', type=float, default=6.0, help='pixels: closer true junctions are one (default: 6)')
    parser.add_argument('--window', type=int, default=512, help='pixels (default: 512)')
    parser.add_argument('--overlap', type=int, default=128, help='pixels (default: 128)')
    parser.add_argument('--lidar', type=float, default=0.0, metavar='DENSITY', help='also heights: pulses a square '
                        'metre (default: 0, none)')
    parser.add_argument('--graph', action='store_true', help='from the clipped graph instead of from maps')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args.size, args.resolution, args.seed, args.weld, not args.graph, args.window,
                        args.overlap, args.lidar)
    for name, value in found.items():
        print(f'{name:<20}{value:>12,.4g}' if isinstance(value, float) else f'{name:<20}{value:>12,}')


if __name__ == '__main__':
    run(main)
