#!/usr/bin/env python
"""The tiny network against a per-pixel random forest on DroneDeploy, split by site; one restartable command.

Trains on one site and scores on another that nothing was tuned on. A finished step leaves a file and is not run again.

    tools/benchmarks/landcover_dronedeploy.py SOURCE --out DIR [--seeds 0 1 2]

SOURCE holds `img/` and `ann/` with files named <site>_<chip>.png. `--reverse` swaps the sites: what the recipe was
tuned on.
"""

import argparse
import json
import os
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.progress import progress
from projects.engine.tool_process import ROOT, run_tool
from projects.evaluation.confusion import confusion_numpy, scores
from projects.geo.raster import read_image, read_mask
from projects.landcover.taxonomy import get_taxonomy

CONFIG = ROOT / 'configs/landcover/ftunetformer-tiny_s0-baseline_dronedeploy-192.py'
SITES = ('ec09336a6f', '1d4fbe33f3')
BUDGET_SECONDS = 600.0  # CPU seconds of one training, all threads and workers, imports and data loading included
FOREST = dict(n_estimators=100, min_samples_leaf=20)
FOREST_PIXELS = 300_000


def pixels(path: Path) -> np.ndarray:
    """Return the (H * W, 6) colour features of an image: RGB and HSV."""
    image = read_image(path)
    return np.concatenate([image, cv2.cvtColor(image, cv2.COLOR_RGB2HSV)], axis=-1).reshape(-1, 6)


def forest(data: Path, items: list[dict], seed: int) -> dict:
    """Fit a random forest on pixel colours of the training split; return its scores on the test split."""
    from sklearn.ensemble import RandomForestClassifier
    train = [item for item in items if item['split'] == 'train']
    generator = np.random.default_rng(seed)
    features, labels = [], []
    for item in train:
        mask = read_mask(data / item['mask']).ravel()
        chosen = generator.choice(mask.size, FOREST_PIXELS // len(train), replace=False)
        chosen = chosen[mask[chosen] != 255]
        features.append(pixels(data / item['image'])[chosen])
        labels.append(mask[chosen])
    model = RandomForestClassifier(**FOREST, random_state=seed)
    model.fit(np.concatenate(features), np.concatenate(labels))
    taxonomy = get_taxonomy('dronedeploy')
    matrix = np.zeros((len(taxonomy.classes),) * 2, np.int64)
    for item in (item for item in items if item['split'] == 'test'):
        mask = read_mask(data / item['mask']).ravel()
        matrix += confusion_numpy(mask, model.predict(pixels(data / item['image'])), len(taxonomy.classes))
    found = scores(matrix, taxonomy.classes)
    return {'mIoU': found.mean_iou, 'IoU': dict(zip(taxonomy.classes, map(float, found.iou)))}


def network(data: Path, out: Path, seed: int, options: list[str]) -> dict:
    """Train and test one seed; return scores and CPU seconds."""
    log = out.with_suffix('.log')
    common = ['--cfg-options', f'data_root={data}', f'randomness.seed={seed}', *options]
    spent = out.with_suffix('.cpu_seconds')
    if not spent.exists():  # an interrupted training starts again: its seconds must be counted whole
        shutil.rmtree(out, ignore_errors=True)
        write_json(spent, run_tool('train.py', CONFIG, '--work-dir', out, *common, log=log))
    seconds = json.loads(spent.read_text())
    if seconds > BUDGET_SECONDS:
        raise UserError(f'seed {seed}: the training took {seconds:.0f} CPU seconds, expected at most '
                        f'{BUDGET_SECONDS:.0f}; lower train_cfg.max_iters')
    checkpoint = out / (out / 'last_checkpoint').read_text().strip().rsplit('/', 1)[-1]
    run_tool('test.py', CONFIG, checkpoint, '--work-dir', out, *common, log=log)
    found = json.loads((out / 'evaluation/test/scores.json').read_text())
    return {'mIoU': found['scores']['mIoU'], 'cpu_seconds': seconds,
            'IoU': {row['class']: row['IoU'] for row in found['per_class']}}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--reverse', action='store_true', help='swap the training and the test site')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    args = parser.parse_args()
    train, test = SITES[::-1] if args.reverse else SITES
    out = args.out.resolve() / f'{train}-to-{test}'
    data = out / 'data'
    out.mkdir(parents=True, exist_ok=True)
    said = out / 'options.json'
    if said.exists() and json.loads(said.read_text()) != args.cfg_options:
        raise UserError(f'{said}: these runs had other --cfg-options; choose another --out')
    write_json(said, args.cfg_options)
    if not (data / 'manifest.json').exists():
        run_tool('landcover/prepare.py', args.source, '--layout', 'folder', '--taxonomy', 'dronedeploy', '--out', data,
                 '--split-by', 'groups', '--group-regex', '^([0-9a-f]+)_', '--assign', f'train={train}',
                 f'test={test}', log=out / 'prepare.log')
    items = json.loads((data / 'manifest.json').read_text())['items']

    def finished(name: str) -> dict:
        file = out / f'{name}.json'
        if not file.exists():
            write_json(file, forest(data, items, 0) if name == 'forest' else network(
                data, out / name, int(name.split('_')[1]), args.cfg_options))
        return json.loads(file.read_text())

    names = ['forest', *(f'seed_{seed}' for seed in args.seeds)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # each training is a process on one thread
        results = dict(zip(names, progress(pool.map(finished, names), 'trainings', total=len(names))))
    base = results.pop('forest')
    values = [result['mIoU'] for result in results.values()]
    print(f'\ntrained on {train}, scored on {test}')
    print(f'random forest       mIoU {base["mIoU"]:.3f}')
    for name, result in results.items():
        print(f'tiny {name:<14} mIoU {result["mIoU"]:.3f}  ({result["cpu_seconds"]:.0f} CPU seconds)')
    spread = statistics.stdev(values) if len(values) > 1 else float('nan')
    mean = statistics.mean(values)
    print(f'tiny, mean of {len(values)}     mIoU {mean:.3f} ± {spread:.3f}  ({mean - base["mIoU"]:+.3f})')


if __name__ == '__main__':
    run(main)
