#!/usr/bin/env python
"""Score classified tiles: tools/lidar/score.py PRED.laz… [--truth-dir DIR] [--out DIR] [--json FILE]."""

from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.files import write_json
from projects.lidar.metrics.point_scores import BUILDING_AREA


def main() -> None:
    parser = Parser(description='Score tiles that tools/lidar/classify.py wrote against their lod3 dimension, or where '
                                'there is none against their ASPRS classification: by class, by size of building.')
    parser.add_argument('tiles', nargs='+', metavar='PRED', help='LAS or LAZ with the dimension terrace_class, or '
                                                                 'folders of them')
    parser.add_argument('--truth-dir', metavar='DIR', help='files of the same names that hold the truth (default: the '
                                                           'classified tiles do)')
    parser.add_argument('--building-area', type=float, default=BUILDING_AREA, metavar='M2',
                        help=f'footprint below which a building is small ({BUILDING_AREA:g})')
    parser.add_argument('--margin', type=float, default=2.0, metavar='M',
                        help='metres around a building in which false alarms are its own (2)')
    parser.add_argument('--unknown-classes', choices=('refuse', 'ignore'), default='refuse',
                        help='what to do with ASPRS codes that no mapping knows')
    parser.add_argument('--out', type=Path, metavar='DIR', help='write tables and pictures, a folder for each level')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all tables as JSON')
    args = parser.parse_args()
    from projects.evaluation.folder import write_evaluation
    from projects.evaluation.score_table import write_score_table
    from projects.evaluation.tables import plain
    from projects.lidar.metrics.tiles import score_tiles, tiles_in

    scored = score_tiles(tiles_in(args.tiles), args.truth_dir, args.building_area, args.margin, args.unknown_classes)
    facts = {'predictions': args.tiles, 'truth': args.truth_dir, 'building_area': args.building_area}
    for level, (table, evaluation) in scored.items():
        print(f'{table.title}\n{evaluation.text()}\n\n{table.text()}\n')
        if args.out:
            write_evaluation(evaluation, args.out / level, facts)
            write_score_table(table, args.out / level, facts)
    if args.out:
        print(f'tables and pictures: {args.out}')
    if args.json:
        write_json(args.json, plain({**facts, 'levels': {
            level: {**table.to_dict(), 'per_class': evaluation.scores.per_class()}
            for level, (table, evaluation) in scored.items()}}))


if __name__ == '__main__':
    run(main)
