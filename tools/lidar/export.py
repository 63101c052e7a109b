#!/usr/bin/env python
"""Write patches of a store as files: tools/lidar/export.py STORE --out DIR [--format npz,laz] [--merge FILE]."""

from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.lidar.exporting import LABEL_SETS, ExportOptions, estimated_bytes, export_patches
from projects.lidar.merge import chosen_of, read_merge
from projects.lidar.store import SPLIT_NAMES, open_store


def main() -> int:
    parser = Parser(description='Copy patches out of a store: .npz with the keys xyz, features and labels, as the '
                    "seed's scripts read them, and .laz for other programs; with --merge also the folder of links "
                    'multiscale_SCALE_NUMBER. Each split has a folder of its own.')
    parser.add_argument('store', type=Path, help='made by tools/lidar/prepare.py')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--format', default='npz', metavar='npz,laz', help='one or both (npz)')
    parser.add_argument('--scales', nargs='+', metavar='SCALE', help="(the store's)")
    parser.add_argument('--split', choices=SPLIT_NAMES, help='(all)')
    parser.add_argument('--merge', type=Path, metavar='FILE', help='the patches of a manifest of tools/lidar/merge.py, '
                        'and links in its order')
    parser.add_argument('--points', type=int, metavar='N', help="of a patch at most, 0: all (the scale's)")
    parser.add_argument('--labels', default='lod3', metavar='|'.join(LABEL_SETS), help='(%(default)s)')
    parser.add_argument('--compression', choices=('none', 'zip'), default='none', help='of the .npz files (none)')
    parser.add_argument('--absolute', action='store_true', help="xyz in the file's coordinates, float64, instead of "
                        'metres from the middle of the patch')
    parser.add_argument('--overwrite', action='store_true', help='replace an export in DIR that was made otherwise')
    parser.add_argument('--dry-run', action='store_true', help='count patches and bytes, and write nothing')
    args = parser.parse_args()
    if args.merge is not None and args.scales is not None:
        raise UserError('--scales: expected none beside --merge, which says what is taken')
    options = ExportOptions(tuple(args.format.replace(' ', '').split(',')), args.points, args.labels,
                            args.compression == 'zip', args.absolute, args.overwrite)
    store = open_store(args.store)
    merge = None if args.merge is None else read_merge(args.merge)
    split = args.split or (merge.split if merge else None)
    refs = [ref for scale in args.scales or store.scales for ref in store.patches(scale, split)]
    if args.merge is not None:
        refs = chosen_of(args.merge, refs)
    if args.dry_run:
        for scale, size in estimated_bytes(store, refs, options).items():
            count = sum(ref.scale == scale for ref in refs)
            print(f'{scale:>5} m  {count:>7,} patches  {size / 1e6:>9,.1f} MB as {args.format}')
        print(f'dry run: nothing was written to {args.out}')
        return 0
    made = export_patches(store, refs, args.out, options, merge)
    counts = ', '.join(f'{count:,} of {scale} m' for scale, count in made.patches.items())
    links = f', {made.links:,} links' if made.links else ''
    total = sum(made.patches.values())
    kept = f', {made.kept:,} of them were there' if made.kept else ''
    print(f'{made.folder}: {total:,} patches ({counts}){kept}{links}, {made.bytes / 1e6:,.1f} MB')
    return 0


if __name__ == '__main__':
    run(main)
