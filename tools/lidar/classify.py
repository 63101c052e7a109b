#!/usr/bin/env python
"""Classify LiDAR tiles: tools/lidar/classify.py CONFIG CHECKPOINT TILE … --out DIR [--scales 50 100 150]."""

import sys

from projects.engine.cli import Parser, add_cfg_options, run
from projects.lidar.prediction.classify import MERGES, Classified, classify


def main() -> int:
    parser = Parser(description='Classify LiDAR tiles: a copy of each, with class, confidence, entropy and the '
                    'disagreement of the scales at every point.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('inputs', nargs='+', metavar='TILE', help='LAS, LAZ or COPC file, or folder of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the copies, NAME.laz')
    parser.add_argument('--scales', nargs='+', metavar='SCALE', help="which to predict with (default: the config's)")
    parser.add_argument('--merge', choices=MERGES, default='mean', help='how scales become one answer (default: mean)')
    parser.add_argument('--gate', metavar='FILE', help='the gate that tools/lidar/fit_gate.py fitted')
    parser.add_argument('--batch', type=int, default=2, help='patches at once (default: 2)')
    parser.add_argument('--device', help='default: CUDA where it works, else cpu')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast (default: float32, as a test scores)')
    parser.add_argument('--overwrite', action='store_true', help='replace copies that were made in another way')
    add_cfg_options(parser)
    args = parser.parse_args()
    failed = count = 0
    for result in classify(args.config, args.checkpoint, args.inputs, args.out, scales=args.scales, merge=args.merge,
                           gate=args.gate, batch=args.batch, device=args.device, amp=args.amp,
                           overwrite=args.overwrite, cfg_options=args.cfg_options):
        show(result)
        count += 1
        failed += result.error is not None
    if failed and count > 1:
        sys.stderr.write(f'error: {failed} of {count} tiles failed\n')
    return 2 if failed else 0


def show(result: Classified) -> None:
    """Print what became of one tile."""
    for warning in result.warnings:
        sys.stderr.write(f'warning: {warning}\n')
    if result.error:
        sys.stderr.write(f'error: {result.error}\n')
    elif result.already:
        print(f'{result.source} -> {result.target} (done already)', flush=True)
    else:
        report = result.report
        rate = report.points / max(result.seconds, 1e-9)
        shares = sorted(report.classes.items(), key=lambda item: -item[1])
        print(f'{result.source} -> {result.target} ({report.points:,} points, {result.seconds:.1f} s, '
              f'{rate:,.0f} points/s, mean confidence {report.confidence:.2f})')
        print('  ' + ', '.join(f'{name} {100 * count / report.points:.1f} %' for name, count in shares), flush=True)


if __name__ == '__main__':
    run(main)
