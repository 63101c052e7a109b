#!/usr/bin/env python
"""Make a town as LiDAR tiles: a generated village under a laser scanner, every point with its LOD3 class."""

from projects.engine.cli import Parser, run


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write the tiles to')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='which town (default: %(default)s)')
    parser.add_argument('--extent', type=float, default=300.0, metavar='M',
                        help='side of the town in metres: its most built-up part (default: %(default)g)')
    parser.add_argument('--tile', type=float, metavar='M', help='side of a tile (default: the extent, at most 1000)')
    parser.add_argument('--density', type=float, default=15.0, metavar='D',
                        help='pulses per square metre (default: %(default)g)')
    parser.add_argument('--format', type=int, default=8, metavar='8|7|6|3',
                        help='point format: 8 with colour and infrared, 7 and 3 colour, 6 neither (default: 8)')
    parser.add_argument('--no-colour', action='store_true', help='leave colours zero, as in uncoloured tiles')
    parser.add_argument('--las', action='store_true', help='write .las, not .laz')
    args = parser.parse_args()

    from projects.evaluation.tables import percent, text_table
    from projects.lidar.classes import LOD3
    from projects.lidar.town import make_town

    town = make_town(args.out, args.seed, args.extent, args.tile, args.density, args.format, not args.no_colour,
                     '.las' if args.las else '.laz')
    counts = town.counts['lod3']
    print(f'{len(town.paths)} tiles, {town.points:,} points in {args.out}, {town.seconds:.1f} s '
          f'({town.points / town.seconds:,.0f} points a second)')
    print(text_table(['class', 'points', 'share'], [[name, f'{count:,}', percent(count / town.points, 3)]
                                                    for name, count in zip(LOD3, counts) if count]))
    return 0


if __name__ == '__main__':
    run(main)
