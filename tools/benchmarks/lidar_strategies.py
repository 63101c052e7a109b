#!/usr/bin/env python
"""The seed's strategies on generated towns at equal points seen, over seeds; one restartable command.

    tools/benchmarks/lidar_strategies.py --out DIR [--seeds 0 1 2]

Train, validation and test towns have seeds of their own. Each seed is a trial of `tools/sweep.py`; the first one also
trains the curriculum and the experts. Every strategy is judged by the same points: all points of the test towns, as
`tools/lidar/classify.py` gives them back. What is finished is not run again.
"""

import argparse
import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_text
from projects.engine.tool_process import ROOT, run_tool

CONFIGS = ROOT / 'configs/lidar'
SWEEP = CONFIGS / 'sweeps/strategies.yaml'
TOWNS = {'train': (10, 11, 12, 13), 'val': (20,), 'test': (30, 31)}
EXTENT = {'train': 340, 'val': 170, 'test': 240}  # metres a side
DENSITY, BLOCK = 10, 170  # pulses per m², metres
BUDGET_SECONDS = 600.0  # CPU seconds of one strategy's training, all threads and workers, imports included
ROWS = {  # row: (stage whose checkpoint it is, config, scales that it is classified with)
    'single 150 m': ('single', 'hybrid-tiny_single-150_town.py', ('150',)),
    'mixed, at 150 m': ('mixed', 'hybrid-tiny_mixed_town.py', ('150',)),
    'mixed, all scales': ('mixed', 'hybrid-tiny_mixed_town.py', ('50', '100', '150')),
    'curriculum, all scales': ('s3', 'hybrid-tiny_s3-150_town.py', ('50', '100', '150')),
    'experts, 150 m patches': ('experts', 'hybrid-tiny_experts_town.py', ('150',)),
    'experts, averaged': ('experts', 'hybrid-tiny_experts_town.py', ('50', '100', '150')),
}
TRAININGS = {'single': ('single',), 'mixed': ('mixed',), 's3': ('s1', 's2', 's3'), 'experts': ('e50', 'e100', 'e150')}


def make_towns(out: Path) -> None:
    """Make and prepare the towns: one store for training, one for validation; the test towns stay tiles."""
    for split, seeds in TOWNS.items():
        for seed in seeds:
            folder = out / 'towns' / split / str(seed)
            if not folder.is_dir():
                run_tool('lidar/make_town.py', '--out', folder, '--seed', seed, '--extent', EXTENT[split],
                         '--density', DENSITY, log=out / 'towns.log')
    for split in ('train', 'val'):
        store = out / split
        run_tool('lidar/prepare.py', *(out / 'towns' / split / str(seed) for seed in TOWNS[split]), '--out', store,
                 '--config', CONFIGS / '_base_/scales.py', '--block-size', BLOCK, log=out / 'towns.log')
        if not (store / 'splits.json').is_file():
            run_tool('lidar/split.py', store, '--ratios', int(split == 'train'), int(split == 'val'), 0,
                     log=out / 'towns.log')


def sweep(out: Path, seed: int, whole: bool) -> None:
    """Run one seed's chain as a sweep of one trial."""
    definition = yaml.safe_load(SWEEP.read_text())
    definition['parameters']['randomness.seed'] = {'values': [seed]}
    places = {'train': out / 'train', 'val': out / 'val'}
    command = [f'{part.partition("=")[0]}={places[part.partition("=")[0]]}' if part.partition('=')[0] in places
               else part for part in definition['command']]
    if whole:
        at = command.index('--until')
        del command[at:at + 2]
    definition['command'] = command
    path = out / f'seed_{seed}.yaml'
    write_text(path, yaml.safe_dump(definition, sort_keys=False))
    run_tool('sweep.py', path, '--work-dir', out / f'seed_{seed}', '--retry', log=out / f'seed_{seed}.log')


def scores_of(out: Path, seed: int) -> dict[str, dict]:
    """Classify the test towns with every strategy of a seed, and score all their points."""
    folder = out / f'seed_{seed}/trial_1'
    state = json.loads((folder / 'chain.json').read_text())['stages']
    found = {}
    for row, (stage, config, scales) in ROWS.items():
        if stage not in state:
            continue
        seconds = sum(state[name].get('cpu_seconds') or 0.0 for name in TRAININGS[stage])
        if seconds > BUDGET_SECONDS:
            raise UserError(f'seed {seed}: {stage} took {seconds:.0f} CPU seconds, expected at most '
                            f'{BUDGET_SECONDS:.0f}')
        result = state[stage]['result']
        checkpoint = folder / stage / (result.get('best') or 'experts.pth')
        place = out / 'classified' / f'{seed}_{row.replace(", ", "_").replace(" ", "-")}'
        log = out / f'seed_{seed}.log'
        run_tool('lidar/classify.py', CONFIGS / config, checkpoint, *(out / 'towns/test' / str(t)
                 for t in TOWNS['test']), '--out', place, '--scales', *scales, log=log)
        if not (place / 'scores.json').is_file():
            run_tool('lidar/score.py', place, '--json', place / 'scores.json', log=log)
        found[row] = {'cpu_seconds': seconds, 'groups': {
            group['group']: group for group in
            json.loads((place / 'scores.json').read_text())['levels']['lod3']['groups']}}
    return found


def table(results: dict[int, dict[str, dict]]) -> str:
    """Return the seed's table: means, and deviations over seeds where there are several."""
    columns = {'mIoU': ('all', 'mIoU'), 'precision': ('all', 'mPrecision'), 'recall': ('all', 'mRecall'),
               'small buildings': ('small buildings', 'mIoU'), 'large buildings': ('large buildings', 'mIoU')}
    lines = ['| strategy | seeds | ' + ' | '.join(columns) + ' | CPU seconds |', '|---' * (len(columns) + 3) + '|']
    for row in ROWS:
        runs = [result[row] for result in results.values() if row in result]
        if not runs:
            continue
        cells = []
        for group, score in columns.values():
            values = [run['groups'][group][score] for run in runs]
            spread = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
            cells.append(f'{statistics.mean(values):.3f}{spread}')
        seconds = max(run['cpu_seconds'] for run in runs)
        lines.append(f'| {row} | {len(runs)} | ' + ' | '.join(cells) + f' | {seconds:.0f} |')
    return '\n'.join(lines)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='seeds at once (default: the cores)')
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    make_towns(out)
    with ThreadPoolExecutor(max_workers=args.jobs) as pool:
        list(pool.map(lambda seed: sweep(out, seed, whole=seed == args.seeds[0]), args.seeds))
        results = dict(zip(args.seeds, pool.map(lambda seed: scores_of(out, seed), args.seeds)))
    print(f'trained on {len(TOWNS["train"])} towns, scored on all points of {len(TOWNS["test"])} others')
    print(table(results))


if __name__ == '__main__':
    run(main)
