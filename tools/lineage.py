#!/usr/bin/env python
"""Print the chain of stages behind a run, back to the data: tools/lineage.py WORK_DIR|CHECKPOINT [--json] [--check]."""

import json

from projects.engine.cli import Parser, run
from projects.multistage.lineage import STATUSES, check, find_lineage, tree


def main() -> int:
    parser = Parser(description='Print the chain of stages behind a run or a checkpoint, back to the data.')
    parser.add_argument('path', metavar='WORK_DIR|CHECKPOINT', help='a folder with lineage.json, or a checkpoint')
    parser.add_argument('--json', action='store_true', help='the whole record, as JSON')
    parser.add_argument('--check', action='store_true',
                        help='verify every hash that can still be verified; status 1 when one differs')
    args = parser.parse_args()
    record, folder = find_lineage(args.path)
    if not args.check:
        print(json.dumps(record, indent=1, ensure_ascii=False) if args.json else tree(record))
        return 0
    findings = check(record, folder)
    if args.json:
        print(json.dumps([vars(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        print('\n'.join(map(str, findings)))
        counts = {status: sum(finding.status == status for finding in findings) for status in STATUSES}
        print(', '.join(f'{number} {status}' for status, number in counts.items()))
    return 1 if any(finding.status == 'differs' for finding in findings) else 0


if __name__ == '__main__':
    run(main)
