#!/usr/bin/env python
"""Score every training image: tools/landcover/score_samples.py CONFIG CHECKPOINT --out difficulty.json [--rule …]."""

from projects.engine.cli import Parser, add_cfg_options, run


def main() -> None:
    parser = Parser(description='Score every image of a split whole and without augmentation, and say how often hard '
                                'sampling would show it.')
    parser.add_argument('config', help='a Python config')
    parser.add_argument('checkpoint', help='the weights (.pth or .safetensors)')
    parser.add_argument('--out', required=True, metavar='FILE', help='the difficulty file (JSON)')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--rule', nargs='+', metavar=('NAME', 'KEY=VALUE'), help=(
        "the rule of the weights, e.g. SeedRule focus='Settlement,Cropland' (default: that of the config's sampler, "
        'else SeedRule)'))
    parser.add_argument('--weights', metavar='FILE', help='also write the weights, one a line (sample_weights.txt)')
    parser.add_argument('--analysis', metavar='FILE', help='also write hard_samples_analysis.json')
    parser.add_argument('--device', help='default: CUDA where it works, else the CPU')
    add_cfg_options(parser)
    args = parser.parse_args()
    from projects.multistage.score_samples import score_samples
    print(score_samples(args.config, args.checkpoint, args.out, split=args.split, rule=args.rule, weights=args.weights,
                        analysis=args.analysis, device=args.device, cfg_options=args.cfg_options))


if __name__ == '__main__':
    run(main)
