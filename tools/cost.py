#!/usr/bin/env python
"""Say what a config's network costs: tools/cost.py CONFIG [--input HEIGHT WIDTH] [--device cpu] [--json FILE]."""

import argparse

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.files import write_json


def main() -> None:
    parser = Parser(description='Parameters live and dead, multiply-accumulates, time and memory of a training step, '
                    'in total, by part and by scale. On random images; nothing else is read or written.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('--input', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        help="size of the images in pixels (default: the config's crop_size or image_size)")
    parser.add_argument('--batch', type=int, default=1, help='images at once (default: 1)')
    parser.add_argument('--threads', type=int, help="threads of the CPU (default: torch's)")
    parser.add_argument('--device', help='default: CUDA where it works, else cpu')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), help="default: as the config's precision says")
    parser.add_argument('--channels-last', action=argparse.BooleanOptionalAction,
                        help="memory format (default: as the config's precision says)")
    parser.add_argument('--rounds', type=int, default=5, help='measured repetitions (default: 5)')
    parser.add_argument('--no-memory', action='store_true', help='leave the peak memory out')
    parser.add_argument('--json', metavar='FILE', help='write all numbers as JSON, too')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f'--rounds: expected at least 1, found {args.rounds}')
    from projects.multiscale.cost_report.setting import make_setting

    setting = make_setting(args.config, size=args.input, batch=args.batch, device=args.device, dtype=args.dtype,
                           channels_last=args.channels_last, threads=args.threads, options=args.cfg_options)
    from projects.multiscale.cost_report.measure import measure_cost
    from projects.multiscale.cost_report.table import cost_table

    cost = measure_cost(setting, rounds=args.rounds, memory=not args.no_memory)
    print(cost_table(cost))
    if args.json:
        write_json(args.json, cost)


if __name__ == '__main__':
    run(main)
