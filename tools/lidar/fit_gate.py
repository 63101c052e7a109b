#!/usr/bin/env python
"""Fit which scale to trust where: tools/lidar/fit_gate.py CONFIG CHECKPOINT STORE --out gate.json [--split val]."""

from projects.engine.cli import Parser, add_cfg_options, run
from projects.lidar.prediction.gate import FEATURES
from projects.lidar.prediction.gate_data import POINTS, GateFit, fit_gate_file


def main() -> None:
    parser = Parser(description='Fit the gate between scales on half the blocks of a split, and print the negative '
                    'log-likelihood of both halves.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('store', help='a store of tools/lidar/prepare.py, with splits')
    parser.add_argument('--out', required=True, metavar='FILE.json', help='the file to write')
    parser.add_argument('--split', default='val', help='of the store (default: val)')
    parser.add_argument('--scales', nargs='+', metavar='SCALE', help="to choose between (default: the config's)")
    parser.add_argument('--points', type=int, default=POINTS, help=f'of each half (default: {POINTS})')
    parser.add_argument('--batch', type=int, default=2, help='patches at once (default: 2)')
    parser.add_argument('--device', help='default: CUDA where it works, else cpu')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast')
    add_cfg_options(parser)
    args = parser.parse_args()
    fit = fit_gate_file(args.config, args.checkpoint, args.store, args.out, scales=args.scales, split=args.split,
                        points=args.points, batch=args.batch, device=args.device, amp=args.amp,
                        cfg_options=args.cfg_options)
    for line in report_lines(fit):
        print(line)
    print(args.out)


def report_lines(fit: GateFit) -> list[str]:
    """Return a table of negative log-likelihoods and the gate's weights."""
    lines = [f'{"negative log-likelihood":<24}{"fitted on":>12}{"held out":>12}',
             f'{"points":<24}{fit.points[0]:>12,}{fit.points[1]:>12,}']
    lines += [f'{f"{scale} alone":<24}{fitted:>12.4f}{held:>12.4f}'
              for scale, fitted, held in zip(fit.gate.scales, *fit.single)]
    lines += [f'{name:<24}{values[0]:>12.4f}{values[1]:>12.4f}'
              for name, values in (('mean of the scales', fit.mean), ('gate', fit.gated))]
    lines += [f'{"weights":<24}' + ''.join(f'{name:>12}' for name in (*FEATURES, 'bias'))]
    lines += [f'{scale:<24}' + ''.join(f'{value:>12.3f}' for value in (*weights, bias))
              for scale, weights, bias in zip(fit.gate.scales, fit.gate.weights, fit.gate.bias)]
    return lines


if __name__ == '__main__':
    run(main)
