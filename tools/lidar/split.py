#!/usr/bin/env python
"""Blocks of a LiDAR store to train, val and test: tools/lidar/split.py STORE."""

import argparse
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.options import read_assignment
from projects.lidar.splits import assign, check_splits, write_splits
from projects.lidar.store import SPLIT_NAMES, SPLITS, open_store


def parse() -> argparse.Namespace:
    parser = Parser(description='Assign blocks of ground to splits and prove, from the patch lists of every scale, '
                    'that no point of one split is in another.')
    parser.add_argument('store', type=Path, help='as tools/lidar/prepare.py wrote it')
    parser.add_argument('--ratios', nargs=3, type=float, default=(0.7, 0.15, 0.15), metavar=('TRAIN', 'VAL', 'TEST'),
                        help='shares of the points (0.7 0.15 0.15)')
    parser.add_argument('--seed', type=int, default=0, help='of the draw (0)')
    parser.add_argument('--block-size', type=float, metavar='METRES',
                        help='ground that stays together, at least a block of the store (one block)')
    parser.add_argument('--assign', nargs='+', metavar='SPLIT=TILE[/BLOCK][,…]', help='instead of a draw')
    parser.add_argument('--check', action='store_true', help='write nothing: prove the splits that are there')
    parser.add_argument('--overwrite', action='store_true', help='replace the splits that are there')
    return parser.parse_args()


def main() -> int:
    args = parse()
    store = open_store(args.store)
    if not args.check:
        if store.splits is not None and not args.overwrite:
            raise UserError(f'{args.store / SPLITS}: is there already; --check proves it, --overwrite replaces it')
        named = read_assignment(args.assign, SPLIT_NAMES, 'TILE[/BLOCK]')
        write_splits(store, assign(store, args.ratios, args.seed, args.block_size, named))
    listed = check_splits(store)
    blocks = [split for tile in store.splits['blocks'].values() for split in tile.values()]
    print(f'{args.store}: {", ".join(f"{blocks.count(name)} blocks {name}" for name in SPLIT_NAMES)}')
    for scale, points in listed.items():
        patches = {name: len(store.patches(scale, name)) for name in SPLIT_NAMES}
        print(f'{scale} m: ' + ', '.join(f'{name} {patches[name]:,} patches of {points[name]:,} points'
                                         for name in SPLIT_NAMES) + '; no point in two splits')
    return 0


if __name__ == '__main__':
    run(main)
