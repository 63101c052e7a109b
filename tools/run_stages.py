#!/usr/bin/env python
"""Run a chain of stages: tools/run_stages.py CHAIN [--from STAGE] [--until STAGE] [--gpus N] [--dry-run] [--status]."""

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.errors import UserError


def main() -> int:
    parser = Parser(description='Run the stages of a chain, each in a process of its own. Called again it goes on '
                                'where it stopped, and does nothing where nothing has changed.')
    parser.add_argument('chain', metavar='CHAIN', help='the chain: a Python config with a list of stages')
    parser.add_argument('--from', dest='start', metavar='STAGE', help='begin here; what it needs must be complete')
    parser.add_argument('--until', metavar='STAGE', help='end after this stage')
    parser.add_argument('--only', metavar='STAGE', help='this stage alone; what it needs must be complete')
    parser.add_argument('--work-dir', metavar='DIR', help='where the stages go (default: work_dirs/chains/<name>)')
    parser.add_argument('--set', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help="values of the chain's inputs")
    parser.add_argument('--gpus', type=int, metavar='N', help='processes of a training (with --launcher)')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none',
                        help='slurm submits one job a stage, with dependencies; SBATCH_ARGS is read')
    parser.add_argument('--stop-at-gates', action='store_true', help='end where a stage loses against its gate')
    parser.add_argument('--accept-code', action='store_true', help='changed code does not count as a change')
    parser.add_argument('--dry-run', action='store_true', help='check everything, print the plan, write nothing')
    parser.add_argument('--status', action='store_true', help='print the tables, run nothing')
    # A chain always goes on; tools/sweep.py says it all the same.
    parser.add_argument('--resume', nargs='?', help=argparse.SUPPRESS)
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.gpus is not None and (args.gpus < 1 or args.launcher == 'none'):
        raise UserError('--gpus: ' + (f'expected a whole number from 1, found {args.gpus}' if args.gpus < 1 else
                                      'needs --launcher pytorch or slurm'))
    for pair in args.set:
        if '=' not in pair:
            raise UserError(f'--set: expected KEY=VALUE, found {pair!r}')
    from projects.multistage.chain.definition import read_chain  # here: it brings torch
    from projects.multistage.chain.progression import progression, progression_text, write_progression
    from projects.multistage.chain.run import ChainRunner, Choice
    from projects.multistage.chain.slurm import repeated_arguments, submit

    chain = read_chain(args.chain, dict(pair.split('=', 1) for pair in args.set))
    choice = Choice(args.start, args.until, args.only, args.launcher, args.gpus, args.stop_at_gates, args.accept_code,
                    args.cfg_options or {})
    runner = ChainRunner(chain, args.work_dir or Path('work_dirs/chains') / chain.name, choice,
                         tell=partial(print, flush=True))
    if args.status:
        print(progression_text(progression(runner)))
        return 0
    if args.dry_run:
        for stage, decision in runner.plan():
            print(f'{stage.name}: {decision.action}{f" ({decision.why})" if decision.why else ""}')
            if decision.action in ('run', 'resume', 'redo', 'follow') and not hasattr(stage, 'text'):
                print(f'  {shlex.join(runner.command(stage))}')
        return 0
    if args.launcher == 'slurm':
        outcome = submit(runner, repeated_arguments(args))
    else:
        outcome = runner.run()
        print(progression_text(write_progression(runner)))
    print(outcome.message)
    return outcome.status


if __name__ == '__main__':
    run(main, preemptible=not {'--dry-run', '--status'} & set(sys.argv))  # what only prints may end in `| head`
