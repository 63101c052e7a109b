#!/usr/bin/env python
"""The hybrid network beside the baseline on real dense tiles with ASPRS labels; one restartable command.

    tools/benchmarks/lidar_dense.py TILES --out DIR

TILES is a folder of adjacent 50 m tiles. Every third one by name is held out: nothing is chosen by it, and each
network's last checkpoint is scored on it once, all points, as `tools/lidar/classify.py` gives them back.
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.tool_process import ROOT, run_tool

CONFIGS = ROOT / 'configs/lidar'
NETWORKS = {'hybrid': 'hybrid-tiny_asprs-50_dense.py', 'RandLA-Net-like baseline': 'randla-tiny_asprs-50_dense.py'}


def prepare(tiles: list[Path], store: Path, log: Path) -> list[Path]:
    """Prepare the tiles that are trained on; return those that are held out."""
    held_out = tiles[2::3]
    run_tool('lidar/prepare.py', *(tile for tile in tiles if tile not in held_out), '--out', store, '--config',
             CONFIGS / '_base_/scales.py', '--scales', 50, '--block-size', 50, log=log)
    if not (store / 'splits.json').is_file():
        run_tool('lidar/split.py', store, '--ratios', 1, 0, 0, log=log)
    return held_out


def train(out: Path, name: str, iterations: int, held_out: list[Path]) -> tuple[float, dict]:
    """Train one network, classify the held-out tiles and score them; return CPU seconds and scores."""
    config, folder = CONFIGS / NETWORKS[name], out / NETWORKS[name].partition('-')[0]
    log = out / f'{folder.name}.log'
    spent = folder / 'cpu_seconds.json'
    if not spent.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        seconds = run_tool('train.py', config, '--work-dir', folder, '--cfg-options', f'data_root={out / "store"}',
                           f'train_cfg.max_iters={iterations}', log=log)
        spent.write_text(json.dumps(seconds))
    scores = folder / 'scores.json'
    if not scores.is_file():
        run_tool('lidar/classify.py', config, folder / f'iter_{iterations}.pth', *held_out, '--out',
                 folder / 'classified', '--scales', 50, log=log)
        run_tool('lidar/score.py', folder / 'classified', '--json', scores, log=log)
    return json.loads(spent.read_text()), json.loads(scores.read_text())


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tiles', type=Path)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--iterations', type=int, nargs=2, default=(2000, 1200), metavar=('HYBRID', 'BASELINE'),
                        help='such that both take as many CPU seconds (default: %(default)s)')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    tiles = sorted(path.resolve() for path in args.tiles.glob('*.la[sz]'))
    if len(tiles) < 3:
        raise UserError(f'{args.tiles}: expected at least 3 tiles, found {len(tiles)}')
    held_out = prepare(tiles, out / 'store', out / 'prepare.log')
    with ThreadPoolExecutor(max_workers=args.jobs) as pool:
        results = list(pool.map(lambda pair: train(out, pair[0], pair[1], held_out), zip(NETWORKS, args.iterations)))
    print(f'trained on {len(tiles) - len(held_out)} tiles, scored on {len(held_out)} others')
    names = [row['class'] for row in results[0][1]['levels']['coarse']['per_class']]
    print('| network | iterations | CPU seconds | mIoU | ' + ' | '.join(names) + ' |')
    print('|---' * (len(names) + 4) + '|')
    for name, iterations, (seconds, scores) in zip(NETWORKS, args.iterations, results):
        level = scores['levels']['coarse']
        cells = [f'{row["IoU"]:.3f}' if row['IoU'] is not None else '' for row in level['per_class']]
        cells = [name, str(iterations), f'{seconds:.0f}', f'{level["groups"][0]["mIoU"]:.3f}', *cells]
        print(f'| {" | ".join(cells)} |')


if __name__ == '__main__':
    run(main)
