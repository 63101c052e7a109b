#!/usr/bin/env python
"""Predict photographs: tools/camouflage/predict.py CONFIG CHECKPOINT INPUT … --out DIR [--overlay]."""

import sys

from projects.engine import startup
from projects.engine.cli import Parser, add_cfg_options, run


def main() -> int:
    parser = Parser(description='Predict camouflaged objects: one 8-bit map for each photograph, at its own size.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='photograph, or folder of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the maps')
    parser.add_argument('--overlay', action='store_true', help='also the photograph under the map')
    parser.add_argument('--device', help='default: CUDA where it works, else cpu')
    parser.add_argument('--overwrite', action='store_true', help='replace existing maps')
    add_cfg_options(parser)
    args = parser.parse_args()
    startup.start()
    from projects.camouflage.predict import predict
    from projects.geo.prediction import find_inputs

    failed = 0
    for result in predict(args.config, args.checkpoint, find_inputs(args.inputs), args.out, overlay=args.overlay,
                          overwrite=args.overwrite, device=args.device, cfg_options=args.cfg_options):
        if result.error:
            failed += 1
            sys.stderr.write(f'error: {result.error}\n')
        else:
            print(f'{result.source} -> {result.map} (object on {100 * result.share:.1f} %)', flush=True)
    return 2 if failed else 0


if __name__ == '__main__':
    run(main)
