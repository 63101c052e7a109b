#!/usr/bin/env python
"""What three scales cost a training step, and what each lever saves: tools/benchmarks/multiscale_step.py [--threads 1]

One run, one process, the same weights of PVTv2 and its decoder in all arms: forward, loss, backward and optimizer step
of the single scale and of three scales (0.5, 1, 1.5) take turns, round by round. Times are CPU times of the process
(medians), ratios are those to the single scale in the *same* precision and memory format. Rows:

- ``single``: the image alone.
- ``absi``, ``hierarchical``, ``gated``: three scales with exact gradients, by fuser, without the scale loss.
- ``supervised``: ``absi`` with the scale loss, as the configs train until it is switched off.
- ``checkpoint``, ``no_grad``: the policy of the 1.5x branch, with the first fuser; ``policy`` is the expectation over
  what ``--policy`` draws, ``p * T(gradient) + (1 - p) * T(no_grad)``.
- ``… nchw``, ``… bf16``: the same without channels-last, or with bfloat16 autocast; the others are channels-last and
  float32.

``fusion`` is the time of resizes and fusers alone, forward and backward, over the whole step with exact gradients. Peak
memory is the growth of a fresh process over the model with its gradients and optimizer state; a policy has that of its
worst draw. Below stand the figures of the seed's own code and the ratio of pixels, which is what exact gradients cannot
fall below but for what does not grow with them.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from projects.camouflage.models.pvt_v2 import ARCHS
from projects.engine import startup
from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.progress import progress
from projects.engine.tool_process import ROOT
from projects.multiscale.resizing import resize
from projects.multiscale.scale_policy import parse_policy

SCALES = (0.5, 1.0, 1.5)
FUSERS = {'absi': 'ABSIFusion', 'hierarchical': 'HierarchicalFusion', 'gated': 'GatedFusion'}
SEED = {'time': 4.2, 'peak memory': 2.9}  # the seed document's own code, hierarchical fusion, 352 x 352
LIMITS = {'exact': 3.8, 'policy': 3.0, 'fusion': 0.08, 'memory': 2.0}
FIRST = 'absi'
MODES = {'grad': ('grad', 'grad', 'grad'), 'checkpoint': ('grad', 'grad', 'checkpoint'),
         'no_grad': ('grad', 'grad', 'no_grad')}

# name: (network, mode of the 1.5x branch, channels-last, bfloat16)
ARMS = {
    'single': ('single', 'grad', True, False),
    'absi': ('absi', 'grad', True, False),
    'hierarchical': ('hierarchical', 'grad', True, False),
    'gated': ('gated', 'grad', True, False),
    'supervised': ('supervised', 'grad', True, False),
    'checkpoint': (FIRST, 'checkpoint', True, False),
    'no_grad': (FIRST, 'no_grad', True, False),
    'single nchw': ('single', 'grad', False, False),
    'absi nchw': (FIRST, 'grad', False, False),
    'single bf16': ('single', 'grad', True, True),
    'absi bf16': (FIRST, 'grad', True, True),
    'checkpoint bf16': (FIRST, 'checkpoint', True, True),
    'no_grad bf16': (FIRST, 'no_grad', True, True),
}


def config(network: str, arch: str, head: str) -> dict[str, Any]:
    """Return the model config of a network: ``single``, a fuser's name, or ``supervised`` (first fuser, scale loss)."""
    backbone: dict[str, Any] = dict(type='PVTv2', arch=arch)
    if network != 'single':
        backbone = dict(type='MultiScaleBackbone', backbone=backbone, scales=SCALES, reference=1.0,
                        fusion=dict(type=FUSERS.get(network, FUSERS[FIRST])))
    widths = ARCHS[arch].channels
    if head == 'gate':
        decoder = dict(type='GroupedGateHead', in_channels=widths, num_classes=2, out_channels=1, threshold=0.5)
    else:
        decoder = dict(type='FCNHead', in_channels=widths[0], in_index=0, channels=32, num_convs=1, num_classes=2,
                       out_channels=1, threshold=0.5, norm_cfg=dict(type='BN'),
                       loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    supervision = {} if network != 'supervised' else dict(
        scale_head=dict(type='ScaleHead', in_channels=widths, num_classes=2, out_channels=1),
        scale_loss=dict(type='ScaleAwareLoss', targets='area'))
    return dict(type='MultiScaleSegmentor' if supervision else 'EncoderDecoder', backbone=backbone,
                decode_head=decoder, test_cfg=dict(mode='whole'), **supervision)


def build(network: str, job: dict, shared: nn.Module | None, channels_last: bool) -> nn.Module:
    """Build a network; backbone and decoder are those of ``shared``, where there is one."""
    torch.manual_seed(0)
    model = MODELS.build(config(network, job['arch'], job['head']))
    if shared is not None:
        model.decode_head = shared.decode_head
        if network == 'single':
            model.backbone = shared.backbone
        else:
            model.backbone.backbone = shared.backbone
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model.train()


def draw(job: dict, channels_last: bool) -> tuple[Tensor, list[SegDataSample]]:
    """Draw normalised images and masks of noise: time does not depend on what is seen."""
    generator = torch.Generator().manual_seed(1)
    size, batch = job['size'], job['batch']
    images = torch.randn(batch, 3, size, size, generator=generator)
    masks = torch.randint(0, 2, (batch, 1, size, size), generator=generator)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, [SegDataSample(gt_sem_seg=PixelData(data=mask)) for mask in masks]


def make_step(arm: str, job: dict, model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return a function that does one training step of an arm."""
    network, mode, channels_last, bf16 = ARMS[arm]
    images, samples = draw(job, channels_last)

    def step() -> None:
        if network != 'single':
            model.backbone.modes = MODES[mode]
        torch.manual_seed(2)  # the same dropped paths
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            loss = model.parse_losses(model(images, samples, mode='loss'))[0]
        loss.backward()
        optimizer.step()

    return step


def make_fusion(network: str, job: dict, model: nn.Module, bf16: bool = False) -> Callable[[], None]:
    """Return a function that resizes the images, and the features of random maps, and fuses them, with backward."""
    backbone = model.backbone
    images, _ = draw(job, True)
    sizes = backbone.sizes(job['size'], job['size'])
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=bf16):
        found = [backbone.backbone(resize(images, size)) for size in sizes]
    features = [tuple(maps.detach().requires_grad_() for maps in scale) for scale in found]
    gradients = [torch.randn_like(maps) for maps in features[backbone.reference]]

    def fuse() -> None:
        for maps in (maps for scale in features for maps in scale):
            maps.grad = None
        for size in sizes:
            resize(images, size)
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            fused = backbone._fuse(list(features))
        torch.autograd.backward(fused, [g.to(f.dtype) for f, g in zip(fused, gradients)])

    return fuse


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimizer, with its state made: gradients are zeros."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer


def times(job: dict) -> dict[str, list[float]]:
    """Return the CPU seconds of each arm's steps, and of the fusion alone (``fusion NAME``)."""
    steps: dict[str, Callable[[], None]] = {}
    for channels_last in (True, False):
        shared = build('single', job, None, channels_last)
        models: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
        for arm, (network, _, layout, _) in ARMS.items():
            if layout != channels_last or arm not in job['arms']:
                continue
            if network not in models:
                model = shared if network == 'single' else build(network, job, shared, channels_last)
                models[network] = model, adam(model)
            steps[arm] = make_step(arm, job, *models[network])
        if channels_last:
            for network in FUSERS:
                if network in models:
                    steps[f'fusion {network}'] = make_fusion(network, job, models[network][0])
            if 'absi bf16' in job['arms']:
                steps['fusion absi bf16'] = make_fusion(FIRST, job, models[FIRST][0], bf16=True)
    for step in steps.values():
        step()  # warm-up
    found: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in progress(range(job['rounds']), 'rounds', unit='round'):
        shift = number * 5 % len(names)  # none is always the one after another
        for name in names[shift:] + names[:shift]:
            begun = time.process_time()
            steps[name]()
            found[name].append(time.process_time() - begun)
    return found


def resident(key: str) -> int:
    """Return this process's memory in bytes: ``VmRSS`` now, ``VmHWM`` at its peak."""
    try:
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith(f'{key}:'):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def memory(job: dict) -> int:
    """Return the bytes by which this process grows over the model, its gradients and its optimizer's state."""
    network, _, channels_last, _ = ARMS[job['arm']]
    model = build(network, job, None, channels_last)
    step = make_step(job['arm'], job, model, adam(model))
    try:
        Path('/proc/self/clear_refs').write_text('5')  # Linux: the peak starts anew
        before = resident('VmRSS')
    except OSError:
        before = resident('VmHWM')
    for _ in range(2):
        step()
    return resident('VmHWM') - before


def delegate(job: dict) -> int:
    """Measure an arm's memory in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / 'result.json'
        environment = os.environ | {
            'PYTHONPATH': os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))}
        done = subprocess.run([sys.executable, '-W', 'ignore', __file__, '--job', json.dumps(job), '--result',
                               str(result)], capture_output=True, text=True, env=environment)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ['no message']
            raise UserError(f'{job["arm"]}: the process that measures its memory failed: {lines[-1][:200]}')
        return json.loads(result.read_text())['bytes']


def base_of(arm: str) -> str:
    """Return the single-scale arm in the same precision and memory format."""
    suffix = arm.split(' ')[-1]
    return f'single {suffix}' if suffix in ('nchw', 'bf16') else 'single'


def evaluate(seconds: dict[str, list[float]], peaks: dict[str, int], policy: str, pixels: float) -> dict[str, Any]:
    """Return medians, ratios, the policy's expectation, and whether the limits are kept.

    Args:
        seconds: CPU seconds by arm and round, ``single`` among them.
        peaks: Bytes by arm; may be empty.
        policy: Policy of the 1.5x branch.
        pixels: Pixels of all scales over those of the image.
    """
    rows: dict[str, dict[str, float]] = {}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for arm in ARMS:
        if arm in median:
            base = base_of(arm)
            # Round by round: what slows the machine down for a while slows down both.
            ratio = statistics.median(a / b for a, b in zip(seconds[arm], seconds[base]))
            rows[arm] = dict(seconds=median[arm], ratio=ratio)
            if arm in peaks:
                rows[arm] |= dict(megabytes=peaks[arm] / 1e6, memory=peaks[arm] / peaks[base])
    parsed = parse_policy(policy)
    for suffix in ('', ' bf16'):
        gradient, none = (f'{FIRST if mode == "grad" else mode}{suffix}' for mode in (parsed.mode, 'no_grad'))
        if gradient in rows and none in rows:
            p = parsed.probability
            row = {key: p * rows[gradient][key] + (1 - p) * rows[none][key] for key in ('seconds', 'ratio')}
            if 'memory' in rows[gradient]:
                worst = [rows[name] for name, share in ((gradient, p), (none, 1 - p)) if share]
                row |= {key: max(row[key] for row in worst) for key in ('megabytes', 'memory')}
            rows[f'policy{suffix}'] = row
    fusion = {name.removeprefix('fusion '): median[name] / median[name.removeprefix('fusion ')]
              for name in median if name.startswith('fusion ')}
    checks = []

    def check(name: str, value: float, limit: float) -> None:
        checks.append(dict(name=name, value=value, limit=limit, passed=bool(value <= limit)))

    for name in FUSERS:
        if name in rows:
            check(f'{name}, exact gradients: CPU time over the single scale', rows[name]['ratio'], LIMITS['exact'])
    for name, share in fusion.items():
        check(f'{name}: share of resizes and fusers', share, LIMITS['fusion'])
    if 'policy' in rows:
        check(f'{policy}: CPU time over the single scale', rows['policy']['ratio'], LIMITS['policy'])
        if 'memory' in rows['policy']:
            check(f'{policy}: peak memory over the single scale', rows['policy']['memory'], LIMITS['memory'])
    return dict(rows=rows, fusion=fusion, checks=checks, pixels=pixels, seed=SEED)


def show(found: dict[str, Any], policy: str) -> None:
    """Print the table and the verdicts."""
    print(f'{"arm":24}{"CPU s":>9}{"ratio":>8}{"peak MB":>10}{"ratio":>8}{"fusion":>9}')
    for name, row in found['rows'].items():
        peak = f'{row["megabytes"]:10,.0f}{row["memory"]:8.2f}' if 'memory' in row else ' ' * 18
        share = f'{100 * found["fusion"][name]:7.1f} %' if name in found['fusion'] else ''
        print(f'{name:24}{row["seconds"]:9.3f}{row["ratio"]:8.2f}{peak}{share}')
    print(f'policy of the 1.5x branch: {policy}; ratio of pixels {found["pixels"]:.2f}; the seed: '
          + ', '.join(f'{name} {value}x' for name, value in SEED.items()))
    rows = found['rows']
    for name, before, after in (
            ('channels-last', 'absi nchw', 'absi'), ('bfloat16', 'absi', 'absi bf16'),
            ('scale loss', 'absi', 'supervised'), ('1.5x recomputed', 'absi', 'checkpoint'),
            ('1.5x without gradient', 'absi', 'no_grad'), (f'1.5x {policy}', 'absi', 'policy')):
        if before in rows and after in rows:
            memory = ''
            if 'memory' in rows[before] and 'memory' in rows[after]:
                memory = f', memory x {rows[after]["megabytes"] / rows[before]["megabytes"]:.2f}'
            print(f'lever {name}: time x {rows[after]["seconds"] / rows[before]["seconds"]:.2f}{memory}')
    for check in found['checks']:
        print(f'{"pass" if check["passed"] else "FAIL"}  {check["name"]}: {check["value"]:.3f} <= {check["limit"]:g}')


def main() -> int:
    parser = Parser(description='What three scales cost a training step, and what each lever saves.')
    parser.add_argument('--arch', choices=tuple(ARCHS), default='b2', help='of PVTv2')
    parser.add_argument('--head', choices=('gate', 'fcn'), default='gate', help="GroupedGateHead or mmseg's FCNHead")
    parser.add_argument('--size', type=int, default=352, help='side of the images, pixels')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=5, help='timed steps of each arm')
    parser.add_argument('--policy', default='stochastic(0.5, checkpoint)', help='of the 1.5x branch')
    parser.add_argument('--arms', default=','.join(ARMS), help=f'some of {",".join(ARMS)}')
    parser.add_argument('--no-memory', action='store_true', help='leave the peak memory out')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads (default: all)')
    parser.add_argument('--json', metavar='FILE', help='write the figures')
    parser.add_argument('--job', help=argparse.SUPPRESS)
    parser.add_argument('--result', help=argparse.SUPPRESS)
    args = parser.parse_args()
    startup.start()
    import projects.camouflage.register
    import projects.multiscale.register  # noqa: F401
    if args.job:
        job = json.loads(args.job)
        torch.set_num_threads(job['threads'])
        write_json(args.result, {'bytes': memory(job)})
        return 0

    arms = args.arms.split(',')
    for arm in arms:
        if arm not in ARMS:
            raise UserError(f'--arms: expected some of {", ".join(ARMS)}, found {arm!r}')
    arms = [arm for arm in ARMS if arm in {*arms, *map(base_of, arms)}]
    if min(args.size, args.batch, args.rounds) < 1:
        raise UserError('--size, --batch and --rounds: expected at least 1')
    parse_policy(args.policy, '--policy')
    threads = args.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    job = dict(arms=arms, arch=args.arch, head=args.head, size=args.size, batch=args.batch, rounds=args.rounds,
               threads=threads)
    peaks = {} if args.no_memory else {
        arm: delegate(dict(job, arm=arm)) for arm in progress(arms, 'memory', unit='arm')}
    seconds = times(job)
    backbone = MODELS.build(config(FIRST, 'b0', 'fcn')).backbone
    pixels = sum(h * w for h, w in backbone.sizes(args.size, args.size)) / args.size ** 2
    found = evaluate(seconds, peaks, args.policy, pixels)
    print(f'PVTv2-{args.arch}, {args.size} x {args.size}, batch {args.batch}, {args.head} head, CPU, {threads} '
          f'threads, torch {torch.__version__}, {args.rounds} rounds')
    show(found, args.policy)
    if args.json:
        write_json(args.json, dict(job, policy=args.policy, torch=torch.__version__, times=seconds, **found))
    return int(not all(check['passed'] for check in found['checks']))


if __name__ == '__main__':
    run(main)
