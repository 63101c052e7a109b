#!/usr/bin/env python
"""What generated scenes are good for; restartable: a finished training leaves a file and is not run again.

    tools/benchmarks/camouflage_scenes.py transfer PHOTOGRAPHS --out DIR [--iterations N]
    tools/benchmarks/camouflage_scenes.py scales NETWORK --out DIR [--seeds 0 1 2] [--policy POLICY]

`transfer`: trains at one scale on generated scenes alone and scores PHOTOGRAPHS (images/, masks/) beside a Gaussian in
their centre; the answers to an image and to its mirror image are averaged. `scales`: goes on from NETWORK (a checkpoint
of `transfer`) on scenes of small objects, with three scales and exact gradients, with three scales and a policy (as
many iterations), and with one scale for as many CPU seconds.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import cv2
import numpy as np

from projects.camouflage.metrics import camouflage_scores
from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.progress import progress
from projects.engine.tool_process import ROOT, run_tool
from projects.evaluation.comparison import Spread, noise
from projects.evaluation.tables import text_table

CONFIGS = ROOT / 'configs/camouflage'
SINGLE, THREE = CONFIGS / 'pvtv2-tiny_single_scenes-128.py', CONFIGS / 'pvtv2-tiny_s1-ms-absi_scenes-128.py'
SCORES = ('S', 'wF', 'MAE')
SMALL = ['--number', 600, '--val', 20, '--test', 150, '--size', 128, '--area', 0.004, 0.03, '--difficulty', 0.2, 0.7]
TRANSFER = {'unet': CONFIGS / 'unet-tiny_single_scenes-128.py', 'pvtv2': SINGLE}
VARIED = ['--val', 40, '--test', 40, '--area', 0.01, 0.5]
SIGMAS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)  # of the Gaussian, as shares of the sides


def once(file: Path, asked: list[str], make: Callable[[], Any]) -> Any:
    """Return what ``make`` returns, from ``file`` where it was made before; refuse what was made from other options."""
    if not file.exists():
        write_json(file, {'asked': asked, 'result': make()})
    kept = json.loads(file.read_text())
    if kept['asked'] != asked:
        raise UserError(f'{file}: was made with {" ".join(kept["asked"])}, not {" ".join(asked)}; choose another --out')
    return kept['result']


def scenes(data: Path, *arguments: object) -> None:
    """Make the scenes once."""
    once(data.with_suffix('.json'), [str(argument) for argument in arguments], lambda: run_tool(
        'camouflage/make_scenes.py', '--out', data, *arguments, log=data.with_suffix('.log')))


def train(config: Path, out: Path, options: list[str]) -> float:
    """Train anew; return the CPU seconds."""
    shutil.rmtree(out, ignore_errors=True)
    return run_tool('train.py', config, '--work-dir', out, '--cfg-options', *options, log=out.with_suffix('.log'))


def test(config: Path, out: Path, options: list[str], *views: str) -> dict[str, float]:
    """Score the last checkpoint on the test split, with the arguments of an ensemble."""
    run_tool('test.py', config, last(out), '--work-dir', out, '--out', out / 'maps', *views, '--cfg-options', *options,
             log=out.with_suffix('.log'))
    return json.loads((out / 'evaluation/test/camouflage.json').read_text())['groups'][0]  # over all images


def last(folder: Path) -> Path:
    """Return the last checkpoint of a training."""
    return folder / (folder / 'last_checkpoint').read_text().strip().rsplit('/', 1)[-1]


def length(iterations: int) -> list[str]:
    """Return the options of a training of so many iterations, validated once, at its end."""
    return [f'train_cfg.max_iters={iterations}', f'train_cfg.val_interval={iterations}',
            f'warmup_iters={min(50, iterations // 2)}']


def arm(config: Path, iterations: int, policy: str | None) -> list[str]:
    """Return the options of one of the compared trainings; the scales are supervised for its first third."""
    of_scales = [f'policy={policy}', f'scale_epochs={iterations // 3}'] if config == THREE else []
    return [*length(iterations), *of_scales]


def seconds_per_iteration(config: Path, out: Path, options: list[str]) -> tuple[float, float]:
    """Return the CPU seconds of one iteration (exact gradients), and of everything around the iterations."""
    short, long = 6, 66
    spent = [train(config, out, [*options, *arm(config, number, 'grad')]) for number in (short, long)]
    one = (spent[1] - spent[0]) / (long - short)
    return one, spent[0] - short * one


def scales(args: argparse.Namespace) -> None:
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = out / 'scenes'
    scenes(data, *SMALL, '--seed', 7)
    common = [f'data_root={data}', 'num_workers=0', f'initialise.checkpoint={args.network.resolve()}']
    arms = {'three scales, exact': (THREE, 'grad'), f'three scales, {args.policy}': (THREE, args.policy),
            'one scale, equal CPU time': (SINGLE, None)}

    single, three = once(out / 'cost.json', common, lambda: [
        seconds_per_iteration(path, out / 'cost', common) for path in (SINGLE, THREE)])
    iterations = {THREE: args.iterations,
                  SINGLE: max(1, round((args.iterations * three[0] + three[1] - single[1]) / single[0]))}

    def finished(job: tuple[str, int]) -> dict:
        name, seed = job
        config, policy = arms[name]
        folder = out / f'{"".join(c if c.isalnum() else "-" for c in name)}_{seed}'
        options = [*common, f'randomness.seed={seed}', *arm(config, iterations[config], policy)]

        def result() -> dict:
            spent = train(config, folder, options)
            return {**test(config, folder, options), 'seconds': spent, 'iterations': iterations[config]}

        return once(folder.with_suffix('.json'), options, result)

    jobs = [(name, seed) for seed in args.seeds for name in arms]
    with ThreadPoolExecutor(max_workers=args.jobs) as pool:  # each training is a process on one thread
        results = dict(zip(jobs, progress(pool.map(finished, jobs), 'trainings', total=len(jobs))))
    reference = 'three scales, exact'
    rows = []
    for name in arms:
        runs = [results[name, seed] for seed in args.seeds]
        cells = [shown([r[key] for r in runs]) for key in SCORES]
        found = noise(Spread(tuple(r['S'] for r in runs)),
                      Spread(tuple(results[reference, seed]['S'] for seed in args.seeds)))
        verdict = '' if name == reference else f'{found.difference:+.3f}, {"clear" if found.clear else "in the noise"}'
        rows.append([name, str(runs[0]['iterations']), f'{mean(r["seconds"] for r in runs):.0f}', *cells, verdict])
    print(text_table(['', 'iterations', 'CPU seconds', *SCORES, 'S against exact'], rows))


def shown(values: list[float]) -> str:
    """Return the mean, and the deviation where there are several."""
    return f'{mean(values):.3f}' + (f' ± {stdev(values):.3f}' if len(values) > 1 else '')


def prior(photographs: Path, sigma: float) -> dict[str, float]:
    """Return the scores of one Gaussian in the centre of every photograph."""
    found = []
    for path in sorted((photographs / 'masks').glob('*.png')):
        truth = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        y, x = (np.linspace(-0.5, 0.5, side) for side in truth.shape)
        guess = np.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * sigma ** 2))
        found.append(camouflage_scores(np.round(255 * guess).astype(np.uint8), truth))
    return {key: mean(scores[key] for scores in found) for key in SCORES}


def transfer(args: argparse.Namespace) -> None:
    photographs, out = args.photographs.resolve(), args.out.resolve()
    if not (photographs / 'masks').is_dir():
        raise UserError(f'{photographs}: expected images/ and masks/')
    out.mkdir(parents=True, exist_ok=True)
    data = out / 'scenes'
    scenes(data, '--number', args.number, '--size', args.size, *VARIED, '--seed', 11)
    config = TRANSFER[args.network]
    at = 'test_dataloader.dataset'
    common = [f'data_root={data}', f'image_size={args.size},{args.size}', *length(args.iterations), *args.cfg_options]
    photographed = [*common, f'{at}.data_root={photographs}', f'{at}.layout=plain', f'{at}.split=all']
    rows, folders = [], []
    for seed in args.seeds:
        folder = out / f'{args.network}_{args.iterations}_{seed}'
        options = [*common, f'randomness.seed={seed}']
        seconds = once(folder.with_suffix('.json'), options, partial(train, config, folder, options))
        found = test(config, folder, photographed, '--tta')
        rows.append([f'seed {seed}, {seconds:.0f} CPU seconds', *(f'{found[key]:.3f}' for key in SCORES)])
        folders.append(folder)
    if len(folders) > 1:
        others = [part for folder in folders[1:] for part in ('--also', str(last(folder)))]
        found = test(config, folders[0], photographed, '--tta', *others)
        rows.append([f'all {len(folders)} averaged', *(f'{found[key]:.3f}' for key in SCORES)])
    for sigma in SIGMAS:
        scores = prior(photographs, sigma)
        rows.append([f'Gaussian, sigma {sigma:g} of the sides', *(f'{scores[key]:.3f}' for key in SCORES)])
    print(text_table(['', *SCORES], rows))


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    of_scales = commands.add_parser('scales', help='three scales against one on small objects')
    of_scales.add_argument('network', type=Path, help='the checkpoint that all begin with')
    of_scales.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    of_scales.add_argument('--policy', default='stochastic(0.5, checkpoint)', help='compared with exact gradients')
    of_scales.add_argument('--iterations', type=int, default=200, help='at three scales (default: 200)')
    of_scales.add_argument('--jobs', type=int, default=1, help='trainings at once (default: 1)')
    of_scales.set_defaults(function=scales)
    of_transfer = commands.add_parser('transfer', help='from generated scenes to photographs')
    of_transfer.add_argument('photographs', type=Path, help='a folder with images/ and masks/')
    of_transfer.add_argument('--network', choices=sorted(TRANSFER), default='unet')
    of_transfer.add_argument('--number', type=int, default=3000, help='scenes (default: 3000)')
    of_transfer.add_argument('--size', type=int, default=128, help='their side in pixels (default: 128)')
    of_transfer.add_argument('--iterations', type=int, default=2000, help='default: 2000')
    of_transfer.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    of_transfer.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    of_transfer.set_defaults(function=transfer)
    for command in (of_scales, of_transfer):
        command.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    args.function(args)


if __name__ == '__main__':
    run(main)
