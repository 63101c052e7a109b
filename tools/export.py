#!/usr/bin/env python
"""Write a network as ONNX: tools/export.py CONFIG CHECKPOINT OUT.onnx [--probabilities] [--size HEIGHT WIDTH]."""

from projects.engine import startup
from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.export import OPSET, export_onnx


def main() -> None:
    parser = Parser(description='Write a network as ONNX for any height, width and batch, and compare it with torch. '
                    'Its input is raw, (N, bands, H, W) float32 0..255: it normalises and pads itself.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('out', metavar='OUT.onnx', help='the file to write')
    parser.add_argument('--opset', type=int, default=OPSET, help=f'version of the operators (default: {OPSET})')
    parser.add_argument('--probabilities', action='store_true', help='give probabilities instead of logits')
    parser.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='fix the size')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    add_cfg_options(parser)
    args = parser.parse_args()
    startup.start()
    done = export_onnx(args.config, args.checkpoint, args.out, opset=args.opset, probabilities=args.probabilities,
                       size=args.size, overwrite=args.overwrite, cfg_options=args.cfg_options)
    for (batch, height, width), difference in done.checks:
        print(f'{batch} x {height} x {width}: differs from torch by {difference:.1e} of the largest output')
    print(done.path)


if __name__ == '__main__':
    run(main)
