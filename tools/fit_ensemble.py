#!/usr/bin/env python
"""Fit weights and temperatures of an ensemble: tools/fit_ensemble.py CONFIG CHECKPOINT [--also MEMBER …] --out FILE."""

import sys
from dataclasses import replace

from projects.engine import startup
from projects.engine.cli import Parser, add_cfg_options, run
from projects.multiscale.ensemble_options import add_ensemble_options, ensemble_options
from projects.multiscale.fit import PIXELS, fit_ensemble, report_lines


def main() -> None:
    parser = Parser(description='Fit the weights and temperatures of an ensemble on half the groups of a split, and '
                    'print likelihood and calibration error of both halves.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    add_ensemble_options(parser, fitted=False)
    parser.add_argument('--out', required=True, metavar='FILE.json', help='the file to write')
    parser.add_argument('--split', default='val', choices=('val', 'train'), help="of the config's data (default: val)")
    parser.add_argument('--ids', metavar='FILE', help='only these samples, one id a line')
    parser.add_argument('--pixels', type=int, default=PIXELS, help=f'of each half (default: {PIXELS})')
    parser.add_argument('--device', help='default: CUDA where it works, else cpu')
    add_cfg_options(parser)
    args = parser.parse_args()
    startup.start()
    options = replace(ensemble_options(args), tta=True)
    fit = fit_ensemble(args.config, args.checkpoint, args.out, options=options, split=args.split, ids=args.ids,
                       pixels=args.pixels, device=args.device, cfg_options=args.cfg_options)
    for note in fit.notes:
        sys.stderr.write(f'warning: {note}\n')
    for line in report_lines(fit):
        print(line)
    print(args.out)


if __name__ == '__main__':
    run(main)
