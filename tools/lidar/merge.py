#!/usr/bin/env python
"""Choose patches of several scales in given shares: tools/lidar/merge.py STORE --weights 50=0.4 100=0.3 --out FILE."""

from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.lidar.merge import merge_of, write_merge
from projects.lidar.store import open_store


def weights_of(pairs: list[str]) -> dict[str, float]:
    weights = {}
    for pair in pairs:
        scale, equals, weight = pair.partition('=')
        try:
            weights[scale] = float(weight)
        except ValueError:
            equals = ''
        if not scale or not equals:
            raise UserError(f'--weights: expected SCALE=SHARE, for example 50=0.4, found {pair!r}')
    return weights


def main() -> int:
    parser = Parser(description='Write a manifest of patches of several scales, each scale with its share of the set '
                    'and no patch twice. Nothing is copied: data sets read it (merge_file), tools/lidar/export.py '
                    'links to it.')
    parser.add_argument('store', type=Path, help='made by tools/lidar/prepare.py')
    parser.add_argument('--weights', nargs='+', default=['50=0.4', '100=0.3', '150=0.3'], metavar='SCALE=SHARE',
                        help='(50=0.4 100=0.3 150=0.3)')
    parser.add_argument('--split', help='of the patches: train, val or test (all patches)')
    parser.add_argument('--seed', type=int, default=0, help='which patches, and in which order (0)')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='manifest to write')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE')
    parser.add_argument('--dry-run', action='store_true', help='count, and write nothing')
    args = parser.parse_args()
    weights = weights_of(args.weights)
    if args.out.exists() and not (args.overwrite or args.dry_run):
        raise UserError(f'{args.out}: exists; --overwrite replaces it')
    store = open_store(args.store)
    refs = [ref for scale in store.scales for ref in store.patches(scale, args.split)]
    merge = merge_of(refs, weights, args.seed, args.split)
    for scale, count in merge.counts().items():
        available = sum(ref.scale == scale for ref in refs)
        print(f'{scale:>5} m  {count:>7,} of {available:>7,} patches  {count / len(merge.patches):>5.1%} of the set '
              f'(weight {merge.weights[scale]:.1%})')
    if not args.dry_run:
        write_merge(args.out, merge)
    print(f'{"would write" if args.dry_run else "wrote"} {len(merge.patches):,} patches to {args.out}')
    return 0


if __name__ == '__main__':
    run(main)
