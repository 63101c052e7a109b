#!/usr/bin/env python
"""Score a folder of predicted maps: tools/camouflage/score_maps.py --pred-dir DIR --gt-dir DIR [--out DIR]."""

from projects.camouflage.metrics.folders import score_folders
from projects.engine.cli import Parser, run
from projects.evaluation.score_table import write_score_table


def main() -> None:
    parser = Parser(description='Score 8-bit maps of camouflaged objects against true masks, matched by stem: '
                                'one folder, or one folder for each data set.')
    parser.add_argument('--pred-dir', required=True, metavar='DIR', help='predicted maps, such as tools/test.py --out')
    parser.add_argument('--gt-dir', required=True, metavar='DIR', help='true masks (the object above 128)')
    parser.add_argument('--out', metavar='DIR', help='write camouflage.json, camouflage.csv, camouflage_images.csv')
    args = parser.parse_args()
    table = score_folders(args.pred_dir, args.gt_dir)
    print(table.text())
    if args.out:
        write_score_table(table, args.out, {'predictions': args.pred_dir, 'truth': args.gt_dir})
        print(f'tables: {args.out}')


if __name__ == '__main__':
    run(main)
