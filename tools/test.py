#!/usr/bin/env python
"""Score a checkpoint, or an ensemble, on the test split: tools/test.py CONFIG CHECKPOINT [--also MEMBER …] [--tta]."""

import argparse

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.testing import test
from projects.multiscale.ensemble_options import add_ensemble_options, ensemble_options
from projects.multiscale.wrapping import wrapper_of


def main() -> None:
    parser = Parser(description="Score a checkpoint on the config's test split.")
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('--work-dir', help='logs and tables (default: work_dirs/<config name>)')
    add_ensemble_options(parser)
    parser.add_argument('--out', metavar='DIR', help='write the predicted masks')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures: image, truth, prediction, error')
    parser.add_argument('--amp', action='store_true', help='autocast (default: float32)')
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    test(args.config, args.checkpoint, work_dir=args.work_dir,
         wrap=wrapper_of(ensemble_options(args), args.checkpoint), out=args.out, show_dir=args.show_dir, amp=args.amp,
         cfg_options=args.cfg_options, launcher=args.launcher)


if __name__ == '__main__':
    run(main)
