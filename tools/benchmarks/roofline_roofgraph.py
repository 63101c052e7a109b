#!/usr/bin/env python
"""The narrow RoofMapNet on real roofs: lines verified beside lines by their junctions alone; one restartable command.

    tools/benchmarks/roofline_roofgraph.py DATA --out DIR [--iterations 1200] [--seeds 0]

DATA is RoofGraph in graph layout (tools/roofline/import.py). The network trains on its training images; the last
checkpoint is scored once on the images held out, which lie on other map sheets and choose nothing. A seed that is done
is kept; of one that was stopped, the CPU seconds are those since it went on.
"""

import argparse
import json
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.tool_process import ROOT, run_tool
from projects.evaluation.tables import text_table

CONFIG = ROOT / 'configs/roofline/roofmapnet-tiny_roofgraph-256.py'
COLUMNS = ('sAP5', 'sAP10', 'sAP15', 'unverified/sAP10', 'mAPJ', 'APH', 'FH')


def train(data: Path, out: Path, seed: int, iterations: int) -> tuple[float, dict[str, float]]:
    """Train and test one seed; return CPU seconds and scores."""
    folder, log = out / f'seed-{seed}', out / f'seed-{seed}.log'
    spent, table = folder / 'cpu_seconds.json', folder / 'test/evaluation/test/wireframe.json'
    if not spent.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        seconds = run_tool('train.py', CONFIG, '--work-dir', folder, '--resume', '--cfg-options', f'data_root={data}',
                           f'randomness.seed={seed}', f'train_cfg.max_iters={iterations}',
                           f'train_cfg.val_interval={iterations}', log=log)
        spent.write_text(json.dumps(seconds))
    if not table.is_file():
        run_tool('test.py', CONFIG, folder / f'iter_{iterations}.pth', '--work-dir', folder / 'test', '--cfg-options',
                 f'data_root={data}', log=log)
    return json.loads(spent.read_text()), json.loads(table.read_text())['groups'][0]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', type=Path)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--iterations', type=int, default=1200, help='of 8 images (default: %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in args.seeds:
        seconds, scores = train(args.data.resolve(), out, seed, args.iterations)
        rows.append([str(seed), str(args.iterations), f'{seconds:.0f}', *(f'{scores[name]:.1f}' for name in COLUMNS)])
    print(text_table(['seed', 'iterations', 'CPU seconds', *COLUMNS], rows))


if __name__ == '__main__':
    run(main)
