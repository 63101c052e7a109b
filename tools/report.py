#!/usr/bin/env python
"""Write one HTML page about a run, or several beside each other: tools/report.py WORK_DIR … [--out FILE]."""

from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.evaluation.report import write_report


def main() -> None:
    parser = Parser(description='Write one self-contained HTML page about a run, or several beside each other.')
    parser.add_argument('work_dir', nargs='+', metavar='WORK_DIR',
                        help='the work directory of a training or a test; several are compared: stages of a chain (in '
                             'the order of their lineage), variants, or the same with other seeds')
    parser.add_argument('--out', metavar='FILE',
                        help='the page (default: report.html in WORK_DIR; of several, comparison.html in the last)')
    parser.add_argument('--gallery', action='append', default=[], metavar='DIR',
                        help='pictures of predictions, from tools/test.py --show-dir; of the last WORK_DIR, or given '
                             'once for each in the same order')
    parser.add_argument('--manifest', metavar='FILE', help='manifest.json of the prepared data set')
    parser.add_argument('--figure', action='append', default=[], metavar='TITLE=FILE',
                        help='a further picture; may be given several times')
    parser.add_argument('--title', help="heading of the page (default: the config's name, or those of the stages)")
    args = parser.parse_args()
    figures = []
    for figure in args.figure:
        title, equals, path = figure.partition('=')
        if not equals or not title or not path:
            raise UserError(f'--figure: expected TITLE=FILE, found {figure!r}')
        figures.append((title, path))
    name = 'report.html' if len(args.work_dir) == 1 else 'comparison.html'
    out = Path(args.out) if args.out else Path(args.work_dir[-1]) / name
    write_report(args.work_dir, out, gallery=args.gallery, manifest=args.manifest, figures=figures, title=args.title)
    print(out)


if __name__ == '__main__':
    run(main)
