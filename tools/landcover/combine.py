#!/usr/bin/env python
"""Combine prepared data sets into one: tools/landcover/combine.py TARGET SOURCE... --out DIR."""

import argparse
import signal
import sys
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.landcover.data.combine import SOURCE_SPLITS, combine, undo_combine
from projects.landcover.data.prepare import BadFiles, name_or_file


def parse() -> argparse.Namespace:
    parser = Parser(description='Combine prepared data sets into one in the taxonomy of the target, print the share of '
                    'each, and (--undo) remove exactly what was made.')
    parser.add_argument('data', nargs='*', type=Path, help='prepared data sets, the target first')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='prefixes of the sample ids, one a data set in '
                        "their order (target, and the sources' folder names)")
    parser.add_argument('--taxonomy', help="of the result: a name or a .json file (the target's)")
    parser.add_argument('--remap', nargs='+', default=(), metavar='NAME=MAP', help='of a data set to it: variant of '
                        'the map, or a .json file of class names')
    parser.add_argument('--copy', action='store_true', help='copy the images instead of linking to them')
    parser.add_argument('--source-splits', choices=SOURCE_SPLITS, default='train', help='what is taken of a source: '
                        'its training split, or all splits as they are (train)')
    parser.add_argument('--allow-leaks', action='store_true', help='write although splits share ground')
    parser.add_argument('--overwrite', action='store_true', help='replace a prepared data set in OUT')
    parser.add_argument('--dry-run', action='store_true', help='do everything but write')
    parser.add_argument('--undo', action='store_true', help='remove OUT, if it is still what was made')
    return parser.parse_args()


def main() -> None:
    args = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    if args.undo:
        count = undo_combine(args.out, args.dry_run)
        print(f'{"would remove" if args.dry_run else "removed"} {args.out} with {count} images')
        return
    remaps = {}
    for pair in args.remap:
        name, equals, value = pair.partition('=')
        if not equals or not value:
            raise UserError(f'--remap: expected NAME=MAP, found {pair!r}')
        remaps[name] = name_or_file(value)
    try:
        result = combine(
            args.data, args.out, names=args.names, taxonomy=name_or_file(args.taxonomy), remaps=remaps, copy=args.copy,
            source_splits=args.source_splits, allow_leaks=args.allow_leaks, overwrite=args.overwrite,
            dry_run=args.dry_run)
    except BadFiles as error:
        if len(error.problems) > 1:
            sys.stderr.write(''.join(f'bad: {" ".join(problem.split())}\n' for problem in error.problems))
        raise
    print('\n'.join(result.lines()))
    print(f'{"would write" if args.dry_run else "wrote"} {result.images} images to {args.out}')


if __name__ == '__main__':
    run(main)
