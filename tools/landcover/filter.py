#!/usr/bin/env python
"""Take images with too much of one class out: tools/landcover/filter.py DATA --class Settlement --above 0.5."""

from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.landcover.data.copies import linked_copy
from projects.landcover.data.filter import filter_class, undo_filter


def main() -> None:
    parser = Parser(description='Move the images in which one class fills more than a share of the labelled pixels to '
                    'DATA/filtered/, print the statistics, and (--undo) put them back to the byte.')
    parser.add_argument('data', type=Path, help='a prepared data set')
    parser.add_argument('--class', dest='class_name', metavar='NAME', help='class of its taxonomy')
    parser.add_argument('--above', type=float, default=0.5, metavar='SHARE', help='images above this share go (0.5)')
    parser.add_argument('--split', nargs='+', default=['train'], metavar='SPLIT', help='train, val or both (train)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='leave DATA as it is and filter a copy (images linked)')
    parser.add_argument('--overwrite', action='store_true', help='replace a prepared data set in DIR')
    parser.add_argument('--list-only', action='store_true', help='change nothing, print the id of every image above')
    parser.add_argument('--dry-run', action='store_true', help='do everything but move')
    parser.add_argument('--undo', action='store_true', help='put back what the last filter moved')
    args = parser.parse_args()
    if args.undo:
        names = undo_filter(args.data, args.dry_run)
        print(f'{"would put" if args.dry_run else "put"} {len(names)} images back into {args.data}')
        return
    if args.class_name is None:
        raise UserError('--class: say which class (or --undo)')
    look_only, data = args.dry_run or args.list_only, args.data
    if args.out is not None and not look_only:
        data = args.out
        with linked_copy(args.data, args.out, args.overwrite) as copy:
            shares = filter_class(copy, args.class_name, args.above, args.split)
    else:
        shares = filter_class(data, args.class_name, args.above, args.split, look_only)
    print('\n'.join(shares.removed if args.list_only else shares.lines()))
    if not args.list_only and shares.removed:
        done = 'would move' if args.dry_run else 'moved'
        print(f'{done} {len(shares.removed)} images to {(args.out or data) / "filtered"}')


if __name__ == '__main__':
    run(main)
