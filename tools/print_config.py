#!/usr/bin/env python
"""Print a config as it is built, bases and options merged: tools/print_config.py CONFIG [--key PATH]."""


from mmengine.config import Config

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.config import load_config
from projects.engine.errors import UserError


def main() -> None:
    parser = Parser(description='Print a config as it is built.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('--key', help='only this dotted path, e.g. model.decode_head')
    add_cfg_options(parser)
    args = parser.parse_args()
    config = load_config(args.config, args.cfg_options)
    if args.key:
        value = config
        for part in args.key.split('.'):
            try:
                value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise UserError(f'--key {args.key}: no {part!r} in config {args.config}') from error
        config = Config({args.key.split('.')[-1]: value})
    print(config.pretty_text)


if __name__ == '__main__':
    run(main)
