#!/usr/bin/env python
"""Time and memory of one training step of FTUNetFormer, by setting, and whether a setting learns as float32 does.

    tools/benchmarks/landcover_step.py                              forward and backward at 512 x 512, batch 1
    tools/benchmarks/landcover_step.py --loss-curves 100 --seeds 3  loss curves of every setting

Every setting runs in a process of its own, so that its peak memory is its own. With ``--json FILE`` results are kept
as they come, and a second call takes up where the first one stopped.

Loss curves: each setting trains from the same seeds (weights, data, dropout) on generated images, coloured and
textured blobs. The curves are smoothed by a moving mean over a tenth of the steps. *Seed noise* is the mean absolute
difference between the curves of two seeds of ``nchw`` (mean over all pairs); a setting stays within it when the mean
absolute difference between its curves and those of ``nchw``, seed by seed, is not larger.
"""

import argparse
import itertools
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from tqdm import tqdm

import projects.engine.backbones
import projects.landcover.losses
import projects.landcover.models  # noqa: F401
from projects.engine import startup
from projects.engine.cli import Parser, run
from projects.engine.config import load_config
from projects.engine.errors import UserError
from projects.engine.files import write_json

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'landcover'
MODELS_BY_NAME = {
    'full': 'ftunetformer_s0-baseline_45e_landcover6-512.py',
    'tiny': 'ftunetformer-tiny_s0-baseline_village-256.py'}
SETTINGS = {  # the first is what the others are compared with
    'nchw': dict(channels_last=False, amp=False, compile=False),
    'channels_last': dict(channels_last=True, amp=False, compile=False),
    'bf16': dict(channels_last=True, amp=True, compile=False),
    'compile': dict(channels_last=False, amp=False, compile=True),
    'bf16_compile': dict(channels_last=True, amp=True, compile=True),
}
REFERENCE = 'nchw'


def blobs(generator: torch.Generator, batch: int, size: int, classes: int) -> tuple[Tensor, Tensor]:
    """Draw images (N, 3, S, S), normalised, and labels (N, S, S): a class is a colour and a stripe pattern, blurred
    by noise, in blobs of about a sixth of the image."""
    fields = torch.randn(batch, classes, 7, 7, generator=generator)
    labels = F.interpolate(fields, size=(size, size), mode='bicubic', align_corners=True).argmax(1)
    ids = torch.arange(classes, dtype=torch.float32)
    colours = torch.stack([torch.cos(ids * step) for step in (1.0, 2.1, 3.3)], 1) * 0.7
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing='ij')
    angle = (ids * torch.pi / classes).view(-1, 1, 1)
    stripes = torch.sin((row * angle.sin() + column * angle.cos()) * torch.pi / 4)  # (C, S, S)
    pattern = stripes.expand(batch, -1, -1, -1).gather(1, labels[:, None])
    images = colours[labels].permute(0, 3, 1, 2) + 0.5 * pattern
    return images + torch.randn(images.shape, generator=generator), labels


def build(config: str, setting: dict, device: torch.device, seed: int) -> nn.Module:
    """Build the segmentor of a base config from scratch, in a setting."""
    torch.manual_seed(seed)
    model = MODELS.build(load_config(CONFIGS / MODELS_BY_NAME[config]).model)
    model.init_weights()
    if device.type == 'cpu':
        model = revert_sync_batchnorm(model)
    model = model.to(device)
    if setting['channels_last']:
        model = model.to(memory_format=torch.channels_last)
    if setting['compile']:
        model.forward = torch.compile(model.forward)  # as MMEngine's runner does
    return model.train()


def losses_of(model: nn.Module, setting: dict, images: Tensor, labels: Tensor) -> Tensor:
    """Run forward and losses under the setting's precision; return the sum of the loss terms."""
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]
    with torch.autocast(images.device.type, torch.bfloat16, enabled=setting['amp']):
        return model.parse_losses(model(images, samples, mode='loss'))[0]


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW with the recipe's rates: a tenth of the head's for the backbone."""
    return torch.optim.AdamW([dict(params=model.backbone.parameters(), lr=6e-5),
                              dict(params=model.decode_head.parameters(), lr=6e-4)], weight_decay=2.5e-4)


def measure(job: dict, device: torch.device) -> dict:
    """Time the parts of a training step; medians in milliseconds, peak memory in MB."""
    setting = SETTINGS[job['setting']]
    model = build(job['config'], setting, device, seed=0)
    optimizer = optimizer_of(model)
    images, labels = blobs(torch.Generator().manual_seed(0), job['batch'], job['size'],
                           model.decode_head.num_classes)
    images, labels = images.to(device), labels.to(device)

    def timed(function: Callable[[], Tensor | None]) -> tuple[Tensor | None, float]:
        begin = time.perf_counter()
        result = function()
        if device.type == 'cuda':
            torch.cuda.synchronize()
        return result, 1000 * (time.perf_counter() - begin)

    parts: dict[str, list[float]] = {'forward': [], 'backward': [], 'update': []}
    first = 0.0
    for step in range(job['warm_up'] + job['steps']):
        loss, forward = timed(lambda: losses_of(model, setting, images, labels))
        backward = timed(loss.backward)[1]
        update = timed(optimizer.step)[1]
        optimizer.zero_grad()
        first = first or forward + backward
        if step >= job['warm_up']:
            for name, value in zip(parts, (forward, backward, update)):
                parts[name].append(value)
    if device.type == 'cuda':
        peak = torch.cuda.max_memory_allocated() / 1e6
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024) / 1e6
    return {name: statistics.median(values) for name, values in parts.items()} | {'first': first, 'peak': peak}


def train(job: dict, device: torch.device) -> dict:
    """Train on generated images and return the loss of each step."""
    setting = SETTINGS[job['setting']]
    if setting['compile']:
        from torch._inductor import config as inductor
        inductor.fallback_random = True  # the same dropout as the other settings
    model = build(job['config'], setting, device, job['seed'])
    optimizer = optimizer_of(model)
    generator = torch.Generator().manual_seed(1000 + job['seed'])
    torch.manual_seed(job['seed'])
    curve = []
    for _ in range(job['curve']):
        images, labels = blobs(generator, job['batch'], job['size'], model.decode_head.num_classes)
        loss = losses_of(model, setting, images.to(device), labels.to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        curve.append(loss.item())
    return {'losses': curve}


def work(job: dict) -> dict:
    """Do one job in this process; a setting that this machine cannot run is a result, not a failure."""
    startup.start()
    if job['threads']:
        torch.set_num_threads(job['threads'])
    try:
        return (train if 'curve' in job else measure)(job, torch.device(job['device']))
    except Exception as error:
        if SETTINGS[job['setting']]['compile'] or isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            lines = str(error).strip().splitlines() or ['no message']
            return {'unavailable': f'{type(error).__name__}: {lines[0][:150]}'}
        raise


def delegate(job: dict, timeout: float) -> dict:
    """Do one job in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / 'result.json'
        command = [sys.executable, '-W', 'ignore', __file__, '--job', json.dumps(job), '--result', str(result)]
        root = str(Path(__file__).resolve().parents[2])
        environment = os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, (root, os.environ.get('PYTHONPATH'))))}
        with open(Path(folder) / 'log', 'w+', encoding='utf-8') as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                return {'unavailable': f'not done after {timeout:.0f} s'}
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # the compiler's helpers too
                    process.wait()
            if not result.exists():
                log.seek(0)
                lines = log.read().strip().splitlines() or ['no message']
                return {'unavailable': f'process ended with status {process.returncode}: {lines[-1][:150]}'}
        return json.loads(result.read_text())


def report_steps(results: dict[str, dict]) -> None:
    """Print a table of times and memory, with their ratios to the reference."""
    reference = results.get(REFERENCE, {})
    print(f'{"setting":14}{"forward ms":>17}{"backward ms":>17}{"fwd + bwd ms":>17}{"peak MB":>17}{"update ms":>12}'
          f'{"first step s":>14}')
    for name, result in results.items():
        if 'unavailable' in result:
            print(f'{name:14}unavailable: {result["unavailable"]}')
            continue
        cells = []
        for keys in (('forward',), ('backward',), ('forward', 'backward'), ('peak',)):
            value = sum(result[key] for key in keys)
            ratio = ''
            if 'forward' in reference:
                ratio = f' ({value / sum(reference[key] for key in keys):.2f})'
            cells.append(f'{value:,.0f}{ratio}'.rjust(17))
        print(f'{name:14}{"".join(cells)}{result["update"]:12,.0f}{result["first"] / 1000:14.1f}')


def smooth(losses: list[float]) -> np.ndarray:
    """Moving mean over a tenth of the steps (at least one)."""
    window = max(len(losses) // 10, 1)
    return np.convolve(losses, np.ones(window) / window, mode='valid')


def compare_curves(curves: dict[str, dict[int, list[float]]]) -> dict:
    """Compare each setting's curves with the reference's by the rule in this file's docstring.

    Args:
        curves: Losses by setting and seed; at least two seeds of the reference.

    Returns:
        ``noise`` and, by setting, ``difference``, ``within`` and ``last`` (mean smoothed loss at the end).
    """
    smoothed = {name: {seed: smooth(losses) for seed, losses in seeds.items()} for name, seeds in curves.items()}
    reference = smoothed[REFERENCE]
    noise = float(np.mean([np.abs(reference[a] - reference[b]).mean()
                           for a, b in itertools.combinations(sorted(reference), 2)]))
    settings = {}
    for name, seeds in smoothed.items():
        difference = float(np.mean([np.abs(curve - reference[seed]).mean() for seed, curve in seeds.items()]))
        settings[name] = dict(difference=difference, within=bool(difference <= noise),
                              last=float(np.mean([curve[-1] for curve in seeds.values()])))
    return dict(noise=noise, settings=settings)


def report_curves(curves: dict[str, dict[int, list[float]]], unavailable: dict[str, str], steps: int) -> None:
    """Print what :func:`compare_curves` found."""
    for name, reason in unavailable.items():
        print(f'{name:14}unavailable: {reason}')
    if len(curves.get(REFERENCE, {})) < 2:
        return
    found = compare_curves(curves)
    print(f'loss curves over {steps} steps, seeds {sorted(curves[REFERENCE])}; seed noise of {REFERENCE} '
          f'{found["noise"]:.4f}')
    for name, result in found['settings'].items():
        verdict = 'reference' if name == REFERENCE else 'within seed noise' if result['within'] else 'OUTSIDE'
        print(f'{name:14}difference {result["difference"]:.4f}   last loss {result["last"]:.3f}   {verdict}')


def main() -> int:
    parser = Parser(
        description='Time and memory of a training step of FTUNetFormer by setting, and its loss curves.')
    parser.add_argument('--config', choices=tuple(MODELS_BY_NAME), default='full')
    parser.add_argument('--settings', default=','.join(SETTINGS), help=f'some of {",".join(SETTINGS)}')
    parser.add_argument('--size', type=int, default=512, help='side of the images, pixels')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--steps', type=int, default=5, help='timed steps')
    parser.add_argument('--warm-up', type=int, default=2, help='steps before them')
    parser.add_argument('--loss-curves', type=int, default=0, metavar='STEPS', help='train instead of timing')
    parser.add_argument('--seeds', type=int, default=2, help='seeds of the loss curves, at least 2')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda where it works')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads (default: all)')
    parser.add_argument('--timeout', type=float, default=3600, help='seconds for one setting')
    parser.add_argument('--json', help='keep results here, and take up from it')
    parser.add_argument('--job', help=argparse.SUPPRESS)
    parser.add_argument('--result', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        write_json(args.result, work(json.loads(args.job)))
        return 0

    names = args.settings.split(',')
    for name in names:
        if name not in SETTINGS:
            raise UserError(f'--settings: expected some of {", ".join(SETTINGS)}, found {name!r}')
    if args.loss_curves and args.seeds < 2:
        raise UserError('--seeds: seed noise takes at least 2')
    if min(args.size, args.batch, args.steps) < 1:
        raise UserError('--size, --batch and --steps must be at least 1')
    device = args.device or startup.device().type
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: CUDA does not work here')
    jobs = []
    for seed, name in itertools.product(range(args.seeds if args.loss_curves else 1), names):
        job = dict(setting=name, config=args.config, size=args.size, batch=args.batch, device=device,
                   threads=args.threads)
        if args.loss_curves:
            job |= dict(curve=args.loss_curves, seed=seed)
        else:
            job |= dict(steps=args.steps, warm_up=args.warm_up)
        jobs.append(job)

    kept: dict[str, dict] = {}
    if args.json and Path(args.json).exists():
        try:
            kept = {json.dumps(entry['job'], sort_keys=True): entry
                    for entry in json.loads(Path(args.json).read_text())['results']
                    if 'unavailable' not in entry['result']}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{args.json}: expected results of this tool: {error}') from error
    results = []
    for job in tqdm(jobs, desc='settings', disable=not sys.stderr.isatty(), dynamic_ncols=True):
        key = json.dumps(job, sort_keys=True)
        if key not in kept:
            kept[key] = dict(job=job, result=delegate(job, args.timeout))
            if args.json:
                write_json(args.json, dict(torch=torch.__version__, results=list(kept.values())))
        results.append((job, kept[key]['result']))

    failed = int(any('unavailable' in result for job, result in results if job['setting'] == REFERENCE))
    print(f'{args.config} FTUNetFormer, {args.size} x {args.size}, batch {args.batch}, {device}, '
          f'{args.threads or torch.get_num_threads()} threads, torch {torch.__version__}')
    if not args.loss_curves:
        report_steps({job['setting']: result for job, result in results})
        return failed
    curves: dict[str, dict[int, list[float]]] = {}
    unavailable = {}
    for job, result in results:
        if 'losses' in result:
            curves.setdefault(job['setting'], {})[job['seed']] = result['losses']
        else:
            unavailable[job['setting']] = result['unavailable']
    report_curves(curves, unavailable, args.loss_curves)
    return failed


if __name__ == '__main__':
    run(main)
