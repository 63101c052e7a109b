#!/usr/bin/env python
"""Look at every file of a camouflage data set: tools/camouflage/check.py DATA_ROOT [DATA_ROOT …] [--layout NAME]."""

from projects.engine import startup
from projects.engine.cli import Parser, run


def main() -> int:
    parser = Parser(description='List splits and counts, read every image and mask, and find images that are in two '
                                'splits. One line a problem; status 1 where there is one.')
    parser.add_argument('data', nargs='+', metavar='DATA_ROOT', help='root folder of a data set')
    parser.add_argument('--layout', default='auto', help='of the folders (auto: the one that is there)')
    parser.add_argument('--val-share', type=float, default=0.05, metavar='SHARE',
                        help='of the training images, held out where there is no val folder (0.05)')
    parser.add_argument('--duplicates', default='drop', metavar='HOW',
                        help='drop: leave out the known test images among the training images; keep; a file of names')
    parser.add_argument('--mask-values', default='auto', help='0/255, 0/1, or auto: what most masks have')
    parser.add_argument('--non-camouflaged', action='store_true', help='also the images COD10K-NonCAM-…')
    args = parser.parse_args()
    startup.start()
    from projects.camouflage.datasets.check import check_data

    report = check_data(args.data, args.layout, args.val_share, args.duplicates, args.mask_values,
                        args.non_camouflaged)
    for line in report.facts:
        print(line)
    for line in report.problems:
        print(f'problem: {line}')
    print(f'{len(report.problems)} problems' if report.problems else 'no problem found')
    return 1 if report.problems else 0


if __name__ == '__main__':
    run(main)
