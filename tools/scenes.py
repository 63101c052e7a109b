#!/usr/bin/env python
"""Make a procedural village: orthophoto tiles (R, G, B, NIR) and object masks as GeoTIFF."""


from projects.engine.cli import Parser, run


def main() -> int:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    make = commands.add_parser('make', help='write a village as tiles')
    make.add_argument('--out', required=True, metavar='DIR', help='folder to write: new or empty')
    make.add_argument('--tiles', type=int, default=16, metavar='N', help='number of tiles (default: %(default)s)')
    make.add_argument('--size', type=int, default=512, metavar='PX', help='pixels a side (default: %(default)s)')
    make.add_argument('--resolution', type=float, default=0.5, metavar='M',
                      help='metres per pixel (default: %(default)s)')
    make.add_argument('--seed', type=int, default=0, metavar='S', help='which village (default: %(default)s)')
    make.add_argument('--season', choices=('summer', 'autumn', 'spring'), default='summer')
    make.add_argument('--overwrite', action='store_true', help='replace the village that is in DIR')
    args = parser.parse_args()

    from projects.scenes.files import write_village

    village = write_village(args.out, args.tiles, args.size, args.resolution, args.seed, args.season, args.overwrite)
    shares = ', '.join(f'{name} {share:.1%}' for name, share in village.shares.items() if share > 0)
    print(f'{len(village.names)} tiles of {args.size} px, {village.extent[0]:g} x {village.extent[1]:g} m, '
          f'{village.seconds:.1f} s: {shares}')
    return 0


if __name__ == '__main__':
    run(main)
