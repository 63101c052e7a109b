#!/usr/bin/env python
"""Run a sweep without a server: tools/sweep.py SWEEP.yaml [--count N] [--work-dir DIR] [--seed S] [--dry-run]."""

import shlex
from functools import partial
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.sweep.definition import read_sweep
from projects.engine.sweep.results import results_table
from projects.engine.sweep.run import Sweeper


def main() -> int:
    parser = Parser(description="Run a sweep in W&B's format without a server, one trial after another. Called again "
                                'it goes on where it stopped.')
    parser.add_argument('sweep', metavar='SWEEP.yaml', help='the sweep; wandb sweep takes the same file')
    parser.add_argument('--count', type=int, metavar='N', help="so many trials in all (default: the sweep's run_cap, "
                                                               'or the whole grid)')
    parser.add_argument('--work-dir', metavar='DIR', help='where the trials go (default: work_dirs/sweeps/<name>)')
    parser.add_argument('--seed', type=int, default=0, help='of the random draws (default: 0)')
    parser.add_argument('--retry', action='store_true', help='run trials again that have failed before')
    parser.add_argument('--max-failures', type=int, default=3, metavar='N',
                        help='so many failures in a row end the sweep (default: 3)')
    parser.add_argument('--dry-run', action='store_true', help='check everything, print the commands, start nothing')
    args = parser.parse_args()
    for name in ('count', 'max_failures'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f'--{name.replace("_", "-")}: expected a whole number from 1, found {getattr(args, name)}')
    sweep = read_sweep(args.sweep)
    sweeper = Sweeper(sweep, args.work_dir or Path('work_dirs/sweeps') / Path(args.sweep).stem, count=args.count,
                      seed=args.seed, retry=args.retry, max_failures=args.max_failures,
                      tell=partial(print, flush=True))
    if args.dry_run:
        sweeper.check()
        for command in sweeper.commands():
            print(shlex.join(command))
        return 0
    outcome = sweeper.run()
    print(results_table(outcome.trials, sweep.metric))
    print(outcome.message)
    return outcome.status


if __name__ == '__main__':
    run(main)
