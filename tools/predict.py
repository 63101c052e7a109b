#!/usr/bin/env python
"""Predict an image, a folder of images or a GeoTIFF of any size: tools/predict.py CONFIG CHECKPOINT INPUT --out DIR."""

import sys

from projects.engine.cli import Parser, add_cfg_options, run
from projects.geo.prediction import Prediction
from projects.landcover.predict import predict
from projects.multiscale.ensemble_options import add_ensemble_options, ensemble_options


def main() -> int:
    parser = Parser(description='Predict an image, a folder of images or a GeoTIFF of any size.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, GeoTIFF, or folder of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the outputs')
    parser.add_argument('--window', type=int, help="side of a window in pixels (default: the config's, else 512)")
    parser.add_argument('--overlap', type=int, help="pixels shared by windows (default: the config's, else a quarter)")
    parser.add_argument('--batch-size', type=int, default=2, help='windows at once (default: 2)')
    parser.add_argument('--probabilities', action='store_true', help='one band per class: value / 254, 255 = no data')
    parser.add_argument('--overlay', action='store_true', help='the image under half-transparent class colours')
    parser.add_argument('--polygons', action='store_true', help='class polygons as GeoPackage')
    parser.add_argument('--areas', action='store_true', help='hectares per class, printed and as CSV')
    parser.add_argument('--uncertainty', action='store_true', help='entropy and disagreement, 0..1, NaN = no data')
    add_ensemble_options(parser)
    parser.add_argument('--device', help='default: CUDA where it works, else cpu')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast (default: float32, as a test scores)')
    parser.add_argument('--overwrite', action='store_true', help='replace existing outputs')
    add_cfg_options(parser)
    args = parser.parse_args()
    results = predict(
        args.config, args.checkpoint, args.inputs, args.out, window=args.window, overlap=args.overlap,
        batch_size=args.batch_size, device=args.device, amp=args.amp, probabilities=args.probabilities,
        overlay=args.overlay, polygons=args.polygons, areas=args.areas, uncertainty=args.uncertainty,
        ensemble=ensemble_options(args), overwrite=args.overwrite, cfg_options=args.cfg_options, on_result=show)
    failed = [result for result in results if result.error]
    if failed:
        sys.stderr.write(f'error: {len(failed)} of {len(results)} inputs failed\n')
    return 2 if failed else 0


def show(result: Prediction) -> None:
    """Print what became of one input."""
    for warning in result.warnings:
        sys.stderr.write(f'warning: {warning}\n')
    if result.error:
        sys.stderr.write(f'error: {result.error}\n')
        return
    sys.stderr.flush()
    print(f'{result.source} -> {result.classes} ({result.seconds:.1f} s)')
    if result.areas:
        for index, (name, pixels) in enumerate(zip(result.names, result.pixels, strict=True)):
            area = f'{result.hectares[index]:12.4f} ha' if result.hectares else ''
            print(f'  {name:24s} {pixels:12d} px {area}')
    sys.stdout.flush()


if __name__ == '__main__':
    run(main)
