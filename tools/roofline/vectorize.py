#!/usr/bin/env python
"""Roofs as vectors: tools/roofline/vectorize.py CONFIG CHECKPOINT IMAGE … --out FILE.gpkg [--lidar TILE.laz …]."""

import sys

from projects.engine.cli import Parser, add_cfg_options, run
from projects.roofline.vectorizing.tiles import Tiling
from projects.roofline.vectorizing.vectorize import Vectorized, VectorOptions, vectorize_checkpoint
from projects.roofline.wireframe import LINE_SCORE


def main() -> int:
    parser = Parser(description='Roof lines, faces and junctions of images and GeoTIFFs of any size as GeoPackage or '
                    'GeoJSON; with LiDAR tiles in three dimensions.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image, GeoTIFF, or folder of them')
    parser.add_argument('--out', required=True, metavar='FILE', help="FILE.gpkg: layers lines, faces and junctions in "
                        "the images' CRS; FILE.geojson: lines and faces, longitude and latitude")
    parser.add_argument('--lidar', nargs='+', default=(), metavar='TILE', help='LAS or LAZ tiles over the images')
    parser.add_argument('--obj', metavar='FILE', help='also write FILE.obj (with --lidar)')
    parser.add_argument('--window', type=int, default=512, help='side of a tile in pixels (default: 512)')
    parser.add_argument('--overlap', type=int, help='pixels shared by tiles (default: a quarter window)')
    parser.add_argument('--batch-size', type=int, default=2, help='tiles at once (default: 2)')
    parser.add_argument('--threshold', type=float, default=LINE_SCORE,
                        help='lowest score of a line (default: %(default)s); F10_score of tools/test.py is the best')
    parser.add_argument('--snap', default='5px', metavar='TOLERANCE', help='within which ends of different tiles are '
                        'one, and lines meet: 5px, 0.5m, or a number: metres on a plane in metres, pixels without a '
                        'place (default: 5px)')
    parser.add_argument('--pixels', action='store_true', help='GeoJSON in pixels, which no GIS can place')
    parser.add_argument('--crs', metavar='EPSG:NUMBER', help='of images with a world file but without a CRS')
    parser.add_argument('--bands', nargs=3, type=int, default=(1, 2, 3), metavar='BAND', help='(1 2 3)')
    parser.add_argument('--value-range', nargs=2, type=float, metavar=('LOW', 'HIGH'),
                        help='values that become 0 and 255, for images of more than 8 bits')
    parser.add_argument('--device', help='default: CUDA where it works, else cpu')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast (default: float32)')
    parser.add_argument('--overwrite', action='store_true', help='replace existing outputs')
    add_cfg_options(parser)
    args = parser.parse_args()
    overlap = args.window // 4 if args.overlap is None else args.overlap
    options = VectorOptions(
        Tiling(args.window, overlap, args.batch_size, args.threshold), args.snap, tuple(args.lidar), args.obj,
        args.pixels, args.crs, tuple(args.bands), tuple(args.value_range) if args.value_range else None,
        args.overwrite)
    for result in vectorize_checkpoint(args.config, args.checkpoint, args.images, args.out, options, args.device,
                                       args.amp, args.cfg_options):
        show(result)
    print(args.out if args.obj is None else f'{args.out}, {args.obj}')
    return 0


def show(result: Vectorized) -> None:
    """Print what became of one image."""
    for warning in result.warnings:
        sys.stderr.write(f'warning: {warning}\n')
    sys.stderr.flush()
    print(f'{result.source}: {result.lines} lines, {result.faces} faces, {result.buildings} buildings '
          f'({result.tiles} tiles, {result.seconds:.1f} s)')
    if result.heights is not None:
        print('  heights of junctions: ' + ', '.join(f'{count} {name}' for name, count in result.heights.items()),
              flush=True)


if __name__ == '__main__':
    run(main)
