#!/usr/bin/env python
"""Look at points: tools/lidar/view.py STORE|TILE --out FILE.png|FILE.html [--by class height error …]."""

from pathlib import Path

import numpy as np

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.lidar.view.cloud import Cloud, cloud_of_file, cloud_of_patch, cloud_of_tile, with_prediction
from projects.lidar.view.colouring import choices
from projects.lidar.view.page import MOST as MOST_ON_A_PAGE


def cloud_of_store(root: Path, tile: str | None, patch: str | None, scale: str | None) -> Cloud:
    from projects.lidar.store import open_store

    store = open_store(root)
    if tile is None and len(store.tiles) > 1:
        raise UserError(f'--tile: expected one of {", ".join(sorted(store.tiles)[:12])}'
                        + (', …' if len(store.tiles) > 12 else ''))
    tile = tile or next(iter(store.tiles))
    if tile not in store.tiles:
        raise UserError(f'--tile: expected one of the {len(store.tiles)} tiles of {root}, found {tile!r}')
    if patch is None:
        return cloud_of_tile(store.tiles[tile], scale or next(iter(store.scales)))
    scale, slash, number = patch.partition('/')
    if not slash or not number.isdecimal():
        raise UserError(f'--patch: expected SCALE/NUMBER, for example 50/12, found {patch!r}')
    refs = {ref.number: ref for ref in store.patches(scale) if ref.tile == tile}
    if int(number) not in refs:
        raise UserError(f'--patch: expected 0 to {len(refs) - 1} of {scale} m in {tile}, found {number}')
    return cloud_of_patch(store.tiles[tile], store.read(refs[int(number)]))


def main() -> int:
    parser = Parser(description='Draw a tile or a patch: a PNG with one panel a colouring, or (.html) a page with a '
                    '3-D view that opens in any browser, without a network.')
    parser.add_argument('input', type=Path, help='a store of tools/lidar/prepare.py, or a .laz or .las file')
    parser.add_argument('--out', type=Path, metavar='FILE', help='.png or .html to write')
    parser.add_argument('--by', nargs='+', metavar='WHAT', help='class, predicted, error, colour, height, or a feature '
                        '(class height; of a page: all that tell something)')
    parser.add_argument('--tile', metavar='NAME', help='of the store')
    parser.add_argument('--patch', metavar='SCALE/NUMBER', help='one patch of the tile, for example 50/12')
    parser.add_argument('--scale', help="whose features to show of a whole tile (the store's first)")
    parser.add_argument('--prediction', type=Path, metavar='FILE', help='what tools/lidar/classify.py wrote for it')
    parser.add_argument('--bounds', nargs=4, type=float, metavar=('X0', 'Y0', 'X1', 'Y1'), help='of a file: this part')
    parser.add_argument('--camera', nargs=2, type=float, default=(0, 90), metavar=('AZIMUTH', 'ELEVATION'),
                        help='of a picture, degrees: 0 90 is from above, 30 38 from the south-south-east (0 90)')
    parser.add_argument('--pixels', type=int, default=1100, metavar='N', help='width of a panel (1100)')
    parser.add_argument('--points', type=int, default=MOST_ON_A_PAGE, metavar='N',
                        help='of a page at most (%(default)s)')
    parser.add_argument('--list', action='store_true', help='print what it can be coloured by, and draw nothing')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE')
    args = parser.parse_args()
    if not args.list:
        if args.out is None or args.out.suffix.lower() not in ('.png', '.html'):
            raise UserError(f'--out: expected a .png or .html file, found {args.out}')
        if args.out.exists() and not args.overwrite:
            raise UserError(f'{args.out}: exists; --overwrite replaces it')
    for flag, value in (('pixels', args.pixels), ('points', args.points)):
        if value < 1:
            raise UserError(f'--{flag}: expected a number above 0, found {value}')
    if args.input.is_dir():
        if args.bounds is not None:
            raise UserError(f'{args.input}: --bounds: expected a file, found a store; --patch shows a part of it')
        cloud = cloud_of_store(args.input, args.tile, args.patch, args.scale)
    elif args.tile or args.patch or args.scale:
        raise UserError(f'{args.input}: --tile, --patch and --scale: expected a store, found a file')
    else:
        cloud = cloud_of_file(args.input, None if args.bounds is None else tuple(args.bounds))
    if args.prediction is not None:
        cloud = with_prediction(cloud, args.prediction)
    if args.list:
        print('\n'.join(choices(cloud)))
        return 0
    if args.out.suffix.lower() == '.html':
        from projects.lidar.view.page import write_page

        write_page(args.out, cloud, args.by, args.points)
    else:
        from projects.lidar.view.picture import write_picture
        from projects.lidar.view.raster import Camera

        by = args.by or ['class', 'height', *(['error'] if cloud.predicted is not None else [])]
        write_picture(args.out, cloud, by, Camera(*np.asarray(args.camera).tolist()), args.pixels)
    print(f'wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB) of {len(cloud):,} points')
    return 0


if __name__ == '__main__':
    run(main)
