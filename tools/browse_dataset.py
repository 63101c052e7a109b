#!/usr/bin/env python
"""Draw what the network really sees: tools/browse_dataset.py CONFIG [--split train] [--number N] [--out DIR]."""

from pathlib import Path

from projects.engine.cli import Parser, add_cfg_options, run
from projects.engine.config import load_config

SPLITS = ('train', 'val', 'test')


def main() -> None:
    parser = Parser(
        description="Draw samples as they come out of a config's pipeline and data preprocessor: image beside mask."
    )
    parser.add_argument('config', help='a Python config')
    parser.add_argument('--split', choices=SPLITS, default='train', help='whose data loader (train)')
    parser.add_argument('--number', type=int, default=8, help='samples, spread over the data set (8)')
    parser.add_argument('--views', type=int, default=1, help='passes of each sample through the augmentation (1)')
    parser.add_argument('--seed', type=int, default=0, help='of the augmentation (0)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder of the pictures (work_dirs/browse/<config>)')
    add_cfg_options(parser)
    args = parser.parse_args()
    config = load_config(args.config, args.cfg_options)  # first: it registers mmseg's modules quietly
    dataset = (config.get(f'{args.split}_dataloader') or {}).get('dataset') or {}
    if dataset.get('type') == 'LidarPatchDataset':
        from projects.lidar.datasets.browse import draw_samples
    elif dataset.get('type') == 'RooflineDataset':
        from projects.roofline.datasets.browse import draw_samples
    else:
        from projects.landcover.datasets.browse import draw_samples
    from projects.evaluation.browsing import browse

    out = args.out or Path('work_dirs/browse') / Path(args.config).stem
    for path in browse(draw_samples, config, out, args.split, args.number, args.views, args.seed):
        print(path)


if __name__ == '__main__':
    run(main)
