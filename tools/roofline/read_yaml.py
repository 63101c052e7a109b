#!/usr/bin/env python
"""The seed's config.yaml as a config of this house: tools/roofline/read_yaml.py config.yaml --out configs/….py."""

import argparse
from pathlib import Path

from projects.engine.cli import Parser, run


def main() -> int:
    from projects.roofline.seed_config import BASE, outcomes_text, read_seed_config, write_child_config

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                    epilog=f'what becomes of the keys:\n{outcomes_text()}')
    parser.add_argument('yaml', type=Path, metavar='YAML', help='config.yaml of the seed')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.py', help='the config to write')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE.py')
    args = parser.parse_args()

    config = read_seed_config(args.yaml)
    base = Path(__file__).resolve().parents[2] / BASE
    write_child_config(config, args.yaml, args.out, base, args.overwrite)
    for note in config.notes:
        print(note)
    print(f'{args.out}: ' + (', '.join(f'{key}={value!r}' for key, value in config.changes.items())
                             or 'nothing differs from the base'))
    return 0


if __name__ == '__main__':
    run(main)
