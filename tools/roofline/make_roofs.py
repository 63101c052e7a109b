#!/usr/bin/env python
"""Make roof lines from procedural villages: windows for training, or one village as raster (and LiDAR tile)."""

from projects.engine.cli import Parser, run


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('--raster', action='store_true',
                        help='one village as GeoTIFF in EPSG:2154 with all its roof lines, not windows')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write: new or empty')
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
    windows.add_argument('--villages', type=int, default=10, metavar='N', help='default: %(default)s')
    windows.add_argument('--images', type=int, default=500, metavar='N', help='of all villages (default: %(default)s)')
    windows.add_argument('--size', type=int, default=256, metavar='PX', help='pixels a side (default: %(default)s)')
    windows.add_argument('--val-share', type=float, default=0.2, metavar='SHARE',
                         help='of the villages (default: %(default)s)')
    windows.add_argument('--test-share', type=float, default=0.1, metavar='SHARE',
                         help='of the villages (default: %(default)s)')
    windows.add_argument('--format', choices=('png', 'tif'), default='png', help='default: %(default)s')
    windows.add_argument('--overwrite', action='store_true', help='replace the roofs that are in DIR')
    raster = parser.add_argument_group('with --raster')
    raster.add_argument('--lidar', type=float, default=0.0, metavar='D',
                        help='also write a LAZ tile of the same ground, D pulses per square metre')
    args = parser.parse_args()

    chosen = {name: value for name, value in (('season', args.season), ('min_visible', args.min_visible),
                                              ('trees', args.trees)) if value is not None}
    if args.raster:
        from projects.roofline.scenes.village_raster import village_raster

        made = village_raster(args.seed, args.extent, args.resolution, args.out, weld=args.weld, lidar=args.lidar,
                              **chosen)
        print(f'{made.raster}: {len(made.graph.junctions)} junctions, {len(made.graph.lines)} lines, '
              f'{made.seconds:.1f} s' + (f'; {made.lidar}' if made.lidar else ''))
        return 0

    from projects.roofline.scenes.windows import RoofRecipe, make_roofs

    recipe = RoofRecipe(args.size, args.resolution, weld=args.weld, extent=args.extent, form=args.format, **chosen)
    made = make_roofs(args.out, args.villages, args.images, args.seed, recipe, args.val_share, args.test_share,
                      args.overwrite)
    shares = ', '.join(f'{count} {split}' for split, count in made.images.items() if count)
    total = sum(made.images.values())
    print(f'{total} images ({shares}) with {made.lines:,} lines in {made.folder}, {made.seconds:.1f} s '
          f'({total / made.seconds:.1f} images a second)')
    return 0


if __name__ == '__main__':
    run(main)
