#!/usr/bin/env python
"""The chain of stages and four ablations on real data, over seeds; one restartable command.

    tools/benchmarks/landcover_chain.py SOURCE --out DIR [--seeds 0 1 2]

SOURCE holds `dronedeploy/`, `loveda/` and `chesapeake/`, each with `img/` and `ann/`. Target is DroneDeploy's site
ec09336a6f; gates, temperature and ensemble weights come from blocks of that site that nothing is trained on. Site
1d4fbe33f3 is scored once, at the end. Each seed is a trial of `tools/sweep.py`; what is finished is not run again.
"""

import argparse
import json
import os
import re
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_text
from projects.engine.tool_process import ROOT, run_tool
from projects.multistage.chain.definition import read_chain

CHAIN = ROOT / 'configs/landcover/chain_dronedeploy.py'
SWEEP = ROOT / 'configs/landcover/sweeps/chain-dronedeploy.yaml'
TEST_SITE = '1d4fbe33f3'
BLOCK = r'^([0-9a-f]+_[0-9A-Z]+-[0-9]{5})'  # ten chips beside each other
VALIDATION = ('00014', '00015', '00016')
BUDGET_SECONDS = 180.0  # CPU seconds of one training, all threads and workers, imports and data loading included
ROWS = {  # what the table calls the stages, in its order
    'baseline': 'baseline', 'pretrain': 'pretrain', 'finetune': 'finetune', 'distil': 'distil', 'ensemble': 'ensemble',
    'distil_no_kd': 'distil, no KD', 'distil_no_mask': 'distil, no mask', 'distil_no_hard': 'distil, no hard sampling',
    'distil_no_pretrain': 'distil, no pretraining'}


def prepare(source: Path, data: Path) -> None:
    """Prepare the three data sets in the four classes that they share."""
    names = sorted(path.name for path in (source / 'dronedeploy/img').glob('*.png'))
    blocks = sorted({re.match(BLOCK, name)[1] for name in names})
    splits: dict[str, list[str]] = {'train': [], 'val': [], 'test': []}
    for block in blocks:
        place = 'test' if block.startswith(TEST_SITE) else 'val' if block.endswith(VALIDATION) else 'train'
        splits[place].append(block)
    how = {
        'dronedeploy': ['--group-regex', BLOCK, '--assign', *(f'{key}={",".join(of)}' for key, of in splits.items())],
        'loveda': ['--tile', 256, '--split-by', 'groups', '--ratios', 1, 0, 0],
        'chesapeake': ['--split-by', 'groups', '--ratios', 1, 0, 0]}
    for name, arguments in how.items():
        if not (data / name / 'manifest.json').exists():
            run_tool('landcover/prepare.py', source / name, '--layout', 'folder', '--source-taxonomy', name,
                     '--taxonomy', 'cover4', '--out', data / name, *arguments, log=data.parent / 'prepare.log')


def sweep(data: Path, out: Path, seed: int) -> None:
    """Run one seed's chain as a sweep of one trial."""
    definition = yaml.safe_load(SWEEP.read_text())
    definition['parameters']['randomness.seed'] = {'values': [seed]}
    places = {'target': data / 'dronedeploy', 'source': data / 'loveda', 'source_2': data / 'chesapeake'}
    definition['command'] = [
        f'{part.partition("=")[0]}={places[part.partition("=")[0]]}' if part.partition('=')[0] in places else part
        for part in definition['command']]
    path = out / f'seed_{seed}.yaml'
    write_text(path, yaml.safe_dump(definition, sort_keys=False))
    run_tool('sweep.py', path, '--work-dir', out / f'seed_{seed}', '--retry', log=out / f'seed_{seed}.log')


def score(data: Path, out: Path, seed: int) -> dict[str, dict]:
    """Score every stage of a seed on the test site; the ensemble has been by its own stage."""
    folder = out / f'seed_{seed}/trial_1'
    state = json.loads((folder / 'chain.json').read_text())['stages']
    chain = read_chain(CHAIN)
    found = {}
    for name in ROWS:
        scores = folder / name / 'evaluation/test/scores.json'
        if name != 'ensemble' and not scores.exists():
            config = CHAIN.parent / chain.stage(name).config
            run_tool('test.py', config, folder / name / state[name]['result']['best'], '--work-dir', folder / name,
                     '--cfg-options', f'data_root={data / "dronedeploy"}', log=out / f'seed_{seed}.log')
        result = json.loads(scores.read_text())
        found[name] = {**result['scores'], 'IoU': {row['class']: row['IoU'] for row in result['per_class']},
                       'cpu_seconds': state[name].get('cpu_seconds')}
        if name != 'ensemble' and (found[name]['cpu_seconds'] or 0) > BUDGET_SECONDS:
            raise UserError(f'seed {seed}: {name} took {found[name]["cpu_seconds"]:.0f} CPU seconds, expected at most '
                            f'{BUDGET_SECONDS:.0f}')
    return found


def table(results: dict[int, dict[str, dict]]) -> str:
    """Return the rows of the README: mean and deviation over seeds, and the difference to the row it belongs to."""
    compared = {'pretrain': 'baseline', 'finetune': 'baseline', 'distil': 'finetune', 'ensemble': 'distil'}
    classes = list(next(iter(results.values()))['baseline']['IoU'])
    lines = ['| stage | mIoU | difference | ' + ' | '.join(classes) + ' | ECE | CPU seconds |',
             '|---' * (len(classes) + 5) + '|']
    for name, title in ROWS.items():
        runs = [result[name] for result in results.values()]
        values = [one['mIoU'] for one in runs]
        against = compared.get(name, 'distil' if name != 'baseline' else None)
        shown = ''
        if against:
            gains = [one[name]['mIoU'] - one[against]['mIoU'] for one in results.values()]
            noise = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float('inf')
            verdict = 'clear' if abs(statistics.mean(gains)) > 2 * noise else 'within the noise'
            shown = f'{statistics.mean(gains):+.3f} to {ROWS[against]}, {verdict}'
        spread = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
        of_classes = [statistics.mean(one['IoU'][c] or 0.0 for one in runs) for c in classes]
        seconds = [one['cpu_seconds'] for one in runs if one['cpu_seconds']]
        lines.append(' | '.join((
            f'| {title}', f'{statistics.mean(values):.3f}{spread}', shown, *(f'{value:.3f}' for value in of_classes),
            f'{statistics.mean(one["ECE"] for one in runs):.3f}',
            f'{max(seconds):.0f}' if seconds and name != 'ensemble' else '')) + ' |')
    return '\n'.join(lines)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='seeds at once (default: the cores)')
    args = parser.parse_args()
    out = args.out.resolve()
    data = out / 'data'
    data.mkdir(parents=True, exist_ok=True)
    prepare(args.source.resolve(), data)
    with ThreadPoolExecutor(max_workers=args.jobs) as pool:
        list(pool.map(lambda seed: sweep(data, out, seed), args.seeds))
        results = dict(zip(args.seeds, pool.map(lambda seed: score(data, out, seed), args.seeds)))
    print(f'trained on DroneDeploy ec09336a6f, scored on {TEST_SITE}; {len(args.seeds)} seeds')
    print(table(results))


if __name__ == '__main__':
    run(main)
