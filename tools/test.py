#!/usr/bin/env python
"""Score a checkpoint on the test split: tools/test.py CONFIG CHECKPOINT [--tta] [--out DIR] [--show-dir DIR]."""

import argparse

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.testing import test


def main() -> None:
    parser = Parser(description="Score a checkpoint on the config's test split.")
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('--work-dir', help='logs and tables (default: work_dirs/<config name>)')
    parser.add_argument('--tta', action='store_true', help="the config's test-time views")
    parser.add_argument('--out', metavar='DIR', help='write the predicted masks')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures: image, truth, prediction, error')
    parser.add_argument('--amp', action='store_true', help='autocast (default: float32)')
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    test(args.config, args.checkpoint, work_dir=args.work_dir, tta=args.tta, out=args.out, show_dir=args.show_dir,
         amp=args.amp, cfg_options=args.cfg_options, launcher=args.launcher)


if __name__ == '__main__':
    run(main)
