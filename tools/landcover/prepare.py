#!/usr/bin/env python
"""Prepare a land-cover data set, or check one: tools/landcover/prepare.py SOURCE --layout LAYOUT --out DIR."""

import argparse
import signal
import sys
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.options import read_assignment
from projects.landcover.data.check import check_prepared, check_source
from projects.landcover.data.layouts import LAYOUTS, SPLITS
from projects.landcover.data.manifest import MANIFEST_NAME
from projects.landcover.data.prepare import ALIGN, BadFiles, Options, Report, name_or_file, prepare
from projects.landcover.data.splits import RULES


def parse() -> argparse.Namespace:
    parser = Parser(
        description='Check every pair of image and mask, remap the labels, split without shared ground, and write '
        'images, masks and a hashed manifest; or (--check) prove that a data set is whole and its splits apart.'
    )
    parser.add_argument('source', type=Path, help='root of the data set as published; with --check also a prepared one')
    parser.add_argument('--layout', help=f'how the source lies on disk: {", ".join(LAYOUTS)}')
    parser.add_argument('--out', type=Path, help='folder to write')
    parser.add_argument('--check', action='store_true', help='write nothing: check SOURCE')
    parser.add_argument('--dry-run', action='store_true', help='do everything but write')
    labels = parser.add_argument_group('labels')
    labels.add_argument('--taxonomy', default='landcover6', help='of the result: a name or a .json file (landcover6)')
    labels.add_argument('--source-taxonomy', help="of the label files: a name or a .json file (the layout's own)")
    labels.add_argument('--remap', help='variant of the map between them, or a .json file of class names')
    labels.add_argument('--mask-band', type=int, metavar='N', help='band of the masks that holds the labels, from 1')
    labels.add_argument('--align', choices=ALIGN, default='refuse', help='masks off the grid of their GeoTIFF (refuse)')
    split = parser.add_argument_group('split')
    split.add_argument('--split-by', choices=RULES, help='official if there is one, else blocks if georeferenced, '
                       'else groups')
    split.add_argument('--ratios', nargs=3, type=float, default=(0.7, 0.15, 0.15), metavar=('TRAIN', 'VAL', 'TEST'))
    split.add_argument('--block-size', type=float, metavar='METRES', help='side of a block (4 to 1 times an image)')
    split.add_argument('--gap', type=float, default=0.0, metavar='METRES', help='least distance between splits (0)')
    split.add_argument('--group-regex', metavar='RE', help="finds the group in an image's stem, e.g. '^([0-9a-f]+)_'")
    split.add_argument('--assign', nargs='+', metavar='SPLIT=GROUP[,GROUP]', help='groups of each split')
    split.add_argument('--seed', type=int, default=0, help='fixes blocks and groups (0)')
    split.add_argument('--allow-leaks', action='store_true', help='write although splits share ground')
    images = parser.add_argument_group('images')
    images.add_argument('--tile', type=int, metavar='PX', help='cut larger images into tiles of at most PX a side')
    images.add_argument('--bands', nargs='+', type=int, default=(), help='bands that every image must have, from 1')
    images.add_argument('--link', action='store_true', help='link to the images instead of copying them')
    images.add_argument('--skip-bad', action='store_true', help='leave bad files out; the manifest lists them')
    images.add_argument('--overwrite', action='store_true', help='replace a prepared data set in OUT')
    return parser.parse_args()


def show(report: Report) -> None:
    if any(patch.split for patch in report.patches):
        print('\n'.join(report.table()))
    for name, reason in report.left_out:
        print(f'left out: {name}: {reason}')
    for warning in report.warnings:
        sys.stderr.write(f'warning: {warning}\n')


def main() -> int:
    args = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    is_prepared = args.layout in (None, 'prepared') and (args.source / MANIFEST_NAME).is_file()
    if args.check and is_prepared:
        report = check_prepared(args.source)
    else:
        if args.layout is None:
            raise UserError(f'{args.source}: say how it lies on disk: --layout {", ".join(LAYOUTS)}')
        options = Options(
            layout=args.layout,
            taxonomy=name_or_file(args.taxonomy),
            source_taxonomy=name_or_file(args.source_taxonomy),
            remap=name_or_file(args.remap),
            split_by=args.split_by,
            ratios=tuple(args.ratios),
            seed=args.seed,
            block_size=args.block_size,
            gap=args.gap,
            group_regex=args.group_regex,
            assign=read_assignment(args.assign, SPLITS, 'GROUP'),
            tile=args.tile,
            align=args.align,
            bands=tuple(args.bands),
            mask_band=args.mask_band,
            link=args.link,
            skip_bad=args.skip_bad,
            allow_leaks=args.allow_leaks,
            overwrite=args.overwrite,
        )
        if not args.check:
            return prepare_and_show(args, options)
        report = check_source(args.source, options)
    show(report)
    for line in [*report.problems, *(f'shared ground: {leak}' for leak in report.leaks)]:
        print(line)
    if report.problems or report.leaks:
        raise UserError(f'{args.source}: {len(report.problems)} problems, {len(report.leaks)} pairs share ground')
    apart = len({patch.split for patch in report.patches} - {None}) > 1
    compared = 'no two splits share ground' if apart else 'no splits to compare'
    print(f'{args.source}: {len(report.patches)} images in order, {compared}')
    return 0


def prepare_and_show(args: argparse.Namespace, options: Options) -> int:
    if args.out is None:
        raise UserError('--out: say where to write (or --check)')
    try:
        report = prepare(args.source, args.out, options, args.dry_run)
    except BadFiles as error:
        if len(error.problems) > 1:
            sys.stderr.write(''.join(f'bad: {" ".join(problem.split())}\n' for problem in error.problems))
        raise
    show(report)
    for problem in report.problems:
        sys.stderr.write(f'skipped: {problem}\n')
    done = 'would write' if args.dry_run else 'wrote'
    print(f'{done} {len(report.patches)} images, split by {report.rule}, to {args.out}')
    return 0


if __name__ == '__main__':
    run(main)
