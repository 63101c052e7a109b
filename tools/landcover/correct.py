#!/usr/bin/env python
"""Correct labels: tools/landcover/correct.py candidates | review | apply | undo | verify | score | recover."""

import argparse
import os
import sys
from pathlib import Path

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.errors import UserError


def parse() -> argparse.Namespace:
    parser = Parser(description='Replace wrong labels by predictions that a person chose, with a ledger and an undo. '
                    'Training and validation only: labels of a test split are never changed.')
    commands = parser.add_subparsers(dest='command', required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument('data', type=Path, help='a prepared data set')
        return added

    make = command('candidates', 'predict with two or more checkpoints and rank the labels by their expected error')
    make.add_argument('--config', required=True, help='a Python config, of all checkpoints')
    make.add_argument('--config-of', action='append', default=[], metavar='LETTER=CONFIG', help='another one of this '
                      'checkpoint: the first is a, the second b, …')
    make.add_argument('--checkpoint', action='append', required=True, help='the weights; give it two to nine times')
    make.add_argument('--names', nargs='+', metavar='NAME', help='what the models are called (their folders)')
    make.add_argument('--out', type=Path, required=True, help='folder to write')
    make.add_argument('--split', nargs='+', default=['val', 'train'], metavar='SPLIT', help='val, train (both)')
    make.add_argument('--limit', type=int, metavar='N', help='keep the N highest ranks')
    make.add_argument('--overwrite', action='store_true', help='replace candidates that nobody has decided upon')
    commands.add_parser('review', help='the page on which a person decides: tools/landcover/review.py')
    apply = command('apply', 'replace the labels that were decided upon')
    apply.add_argument('candidates', type=Path, help='the folder of candidates, or its decisions file')
    apply.add_argument('--decisions', type=Path, metavar='FILE', help='(decisions.csv among the candidates)')
    apply.add_argument('--by', metavar='NAME', help='who does it, for the ledger (the name of the user)')
    apply.add_argument('--out', type=Path, metavar='DIR', help='leave DATA as it is and correct a copy (images linked)')
    apply.add_argument('--overwrite', action='store_true', help='replace a prepared data set in DIR')
    undo = command('undo', 'put the original labels back, to the byte')
    undo.add_argument('--ids', nargs='+', metavar='ID', help='only these samples')
    command('verify', 'prove every byte against the ledger')
    score = command('score', 'score a checkpoint against the original and the corrected labels')
    score.add_argument('config', help='a Python config')
    score.add_argument('checkpoint', help='the weights')
    score.add_argument('--split', default='val', help='train, val or test (val)')
    command('recover', 'finish a correction or a filter that was killed')
    for added in (make, apply, undo):
        added.add_argument('--dry-run', action='store_true', help='do everything but write')
    for added in (make, score):
        added.add_argument('--device', help='default: CUDA where it works, else the CPU')
        if sys.argv[1:2] == [added.prog.split()[-1]]:  # brings mmengine and torch, which the others do without
            add_cfg_options(added)
    return parser.parse_args()


def candidates(args: argparse.Namespace) -> None:
    from projects.engine import startup
    from projects.landcover.correction.candidates import find_candidates, members_of

    startup.start()
    members = members_of(args.config, args.checkpoint, args.config_of, args.names)
    result = find_candidates(
        args.data, members, args.out, splits=args.split, limit=args.limit, cfg_options=args.cfg_options,
        device=args.device, overwrite=args.overwrite, dry_run=args.dry_run)
    for model in result['models']:
        print(f'{model["letter"]}: {model["name"]} ({Path(model["checkpoint"]).name}, {model["sha256"][:12]}…)')
    for item in result['items'][:10]:
        print(f'{item["rank"]:>6}  {item["score"]:.4f}  {item["split"]:<5}  {item["sample_id"]}')
    if args.dry_run:
        print('dry run: nothing was predicted')
    else:
        print(f'wrote {len(result["items"])} candidates to {args.out}; next: tools/landcover/review.py {args.out}')


def apply(args: argparse.Namespace) -> None:
    from projects.landcover.correction.apply import apply_decisions
    from projects.landcover.data.copies import linked_copy

    chosen = (args.decisions or args.candidates, args.candidates)
    if args.out is not None and not args.dry_run:
        with linked_copy(args.data, args.out, args.overwrite) as copy:
            applied = apply_decisions(copy, *chosen, by=args.by)
    else:
        applied = apply_decisions(args.data, *chosen, by=args.by, dry_run=args.dry_run)
    print('\n'.join(applied.lines()))
    if args.dry_run:
        print('dry run: nothing was changed')


def score(args: argparse.Namespace) -> None:
    from projects.engine import startup
    from projects.landcover.correction.candidates import Member
    from projects.landcover.correction.scoring import score_both

    startup.start()
    member = Member(args.config, args.checkpoint, Path(args.checkpoint).stem)
    print('\n'.join(score_both(args.data, member, args.split, args.cfg_options, args.device).lines()))


def main() -> None:
    if sys.argv[1:2] == ['review']:
        os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name('review.py')), *sys.argv[2:]])
    args = parse()
    if args.command == 'candidates':
        candidates(args)
    elif args.command == 'apply':
        apply(args)
    elif args.command == 'score':
        score(args)
    elif args.command == 'undo':
        from projects.landcover.correction.apply import undo_corrections
        restored = undo_corrections(args.data, args.ids, args.dry_run)
        print(f'{"would put" if args.dry_run else "put"} {len(restored)} original labels back into {args.data}')
    elif args.command == 'recover':
        from projects.landcover.data.changes import changing, is_pending
        found = is_pending(args.data)
        with changing(args.data):
            pass  # entering finishes what was left
        print('finished the interrupted change' if found else 'nothing to finish')
    else:
        from projects.landcover.data.ledger import read_ledger, verify_corrections
        problems = verify_corrections(args.data)
        if problems:
            print('\n'.join(problems))
            raise UserError(f'{args.data}: {len(problems)} problems')
        count = len({row.sample_id for row in read_ledger(args.data)})
        print(f'{args.data}: {count} corrected labels, every byte as the ledger says')


if __name__ == '__main__':
    run(main)
