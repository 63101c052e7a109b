#!/usr/bin/env python
"""Train a config: tools/train.py CONFIG [--work-dir DIR] [--resume [auto|PATH]] [--amp] [--cfg-options KEY=VALUE …]."""

import argparse

from projects.engine.cli import Parser, add_cfg_options, run


def main() -> None:
    parser = Parser(description='Train a config.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('--work-dir', help='logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='auto|PATH',
                        help='continue from the newest checkpoint of the work directory, or from a file')
    parser.add_argument('--amp', action='store_true', help='autocast (bfloat16 where the device has it)')
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    from projects.engine.training import train  # here: torch takes seconds, and a signal may come

    train(args.config, work_dir=args.work_dir, resume=args.resume, amp=args.amp, cfg_options=args.cfg_options,
          launcher=args.launcher)


if __name__ == '__main__':
    run(main, preemptible=True)
