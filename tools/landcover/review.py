#!/usr/bin/env python
"""Decide about suspected labels on a local page: tools/landcover/review.py CANDIDATES_DIR."""

import secrets
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.landcover.review.server import serve


def main() -> None:
    parser = Parser(description='Serve a page on this machine that shows each suspected label beside the predictions '
                    'that would replace it. Every decision is saved at once; tools/landcover/correct.py apply reads '
                    'them. Run it again to go on.')
    parser.add_argument('candidates', type=Path, metavar='CANDIDATES_DIR', help='made by correct.py candidates')
    parser.add_argument('--decisions', type=Path, metavar='FILE', help='.csv or .json (CANDIDATES_DIR/decisions.csv)')
    parser.add_argument('--host', default='127.0.0.1', help='where to listen; all but this machine needs a token '
                        '(127.0.0.1)')
    parser.add_argument('--port', type=int, default=0, help='0 takes a free one (0)')
    parser.add_argument('--token', nargs='?', const='', help='whoever opens the page has to have it: at least 16 '
                        'characters; without a value one is made, which no list of processes shows')
    parser.add_argument('--open', action='store_true', help='open the page in the browser of this machine')
    args = parser.parse_args()
    token = secrets.token_hex(16) if args.token == '' else args.token
    serve(args.candidates, args.decisions, args.host, args.port, token, args.open)


if __name__ == '__main__':
    run(main)
