#!/usr/bin/env python
"""Repair offline Weights & Biases runs from scalars.json: tools/sync_runs.py WORK_DIR… [--dry-run] [--upload]."""

from projects.engine.cli import Parser, run
from projects.engine.tracking.sync import repair, upload


def main() -> None:
    parser = Parser(description='Add to offline runs what a killed training could not write, and upload them.')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='the work directory of a training')
    parser.add_argument('--dry-run', action='store_true', help='only say what is missing')
    parser.add_argument('--upload', action='store_true', help='let wandb sync upload them')
    args = parser.parse_args()
    repairs = []
    for work_dir in args.work_dirs:
        repairs.append(repair(work_dir, args.dry_run))
        print(repairs[-1].text(not args.dry_run), flush=True)
    if args.upload and not args.dry_run:
        upload(repairs)


if __name__ == '__main__':
    run(main)
