#!/usr/bin/env python
"""Make roof lines from procedural villages: windows for training, or one village as raster (and LiDAR tile)."""

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError

# Flags that only windows have, and their defaults
WINDOWS = dict(villages=10, images=500, size=256, val_share=0.2, test_share=0.1, format='png')


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('--raster', action='store_true',
                        help='one village as GeoTIFF in EPSG:2154 with all its roof lines, not windows')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write: new or empty')
    parser.add_argument('--overwrite', action='store_true', help='replace the made roofs that are in DIR')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='of the first village (default: %(default)s)')
    parser.add_argument('--resolution', type=float, default=0.15, metavar='M',
                        help='metres per pixel (default: %(default)s)')
    parser.add_argument('--season', choices=('summer', 'autumn', 'spring'),
                        help='default: each village has its own; summer with --raster')
    parser.add_argument('--min-visible', type=float, metavar='SHARE',
                        help='leave out lines of which leaves leave less than this (default: 0.4; 0 with --raster)')
    parser.add_argument('--trees', type=float, metavar='SHARE',
                        help='buildings that get trees over their roofs (default: 0.5; 0 with --raster)')
    parser.add_argument('--weld', type=float, default=0.5, metavar='PX',
                        help='junctions closer than this are one (default: %(default)s)')
    parser.add_argument('--extent', type=float, default=600.0, metavar='M',
                        help='metres a side of a village (default: %(default)g)')
    windows = parser.add_argument_group('windows')
    windows.add_argument('--villages', type=int, metavar='N', help=f'default: {WINDOWS["villages"]}')
    windows.add_argument('--images', type=int, metavar='N', help=f'of all villages (default: {WINDOWS["images"]})')
    windows.add_argument('--size', type=int, metavar='PX', help=f'pixels a side (default: {WINDOWS["size"]})')
    windows.add_argument('--val-share', type=float, metavar='SHARE',
                         help=f'of the villages (default: {WINDOWS["val_share"]})')
    windows.add_argument('--test-share', type=float, metavar='SHARE',
                         help=f'of the villages (default: {WINDOWS["test_share"]})')
    windows.add_argument('--format', choices=('png', 'tif'), help=f'default: {WINDOWS["format"]}')
    raster = parser.add_argument_group('with --raster')
    raster.add_argument('--lidar', type=float, metavar='D',
                        help='also write a LAZ tile of the same ground, D pulses per square metre')
    args = parser.parse_args()

    chosen = {name: value for name, value in (('season', args.season), ('min_visible', args.min_visible),
                                              ('trees', args.trees)) if value is not None}
    if args.raster:
        for name in WINDOWS:
            if getattr(args, name) is not None:
                raise UserError(f'--{name.replace("_", "-")}: expected no --raster, which makes one picture of one '
                                'village')
        from projects.roofline.scenes.village_raster import village_raster

        made = village_raster(args.seed, args.extent, args.resolution, args.out, weld=args.weld,
                              lidar=args.lidar or 0.0, overwrite=args.overwrite, **chosen)
        print(f'{made.raster}: {len(made.graph.junctions)} junctions, {len(made.graph.lines)} lines, '
              f'{made.seconds:.1f} s' + (f'; {made.lidar}' if made.lidar else ''))
        return 0

    if args.lidar is not None:
        raise UserError('--lidar: expected --raster, of which it writes a tile')
    from projects.roofline.scenes.windows import RoofRecipe, make_roofs

    villages, images, size, val_share, test_share, form = (
        default if getattr(args, name) is None else getattr(args, name) for name, default in WINDOWS.items())
    recipe = RoofRecipe(size, args.resolution, weld=args.weld, extent=args.extent, form=form, **chosen)
    made = make_roofs(args.out, villages, images, args.seed, recipe, val_share, test_share, args.overwrite)
    shares = ', '.join(f'{count} {split}' for split, count in made.images.items() if count)
    total = sum(made.images.values())
    print(f'{total} images ({shares}) with {made.lines:,} lines in {made.folder}, {made.seconds:.1f} s '
          f'({total / made.seconds:.1f} images a second)')
    return 0


if __name__ == '__main__':
    run(main)
