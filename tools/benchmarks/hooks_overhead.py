#!/usr/bin/env python
"""Time inside the hooks of a training, as a share of its steps: tools/benchmarks/hooks_overhead.py [--iterations 60]

Trains the tiny land-cover network, as its config says (256 x 256, batch 8), on generated images, with every default
hook and offline tracking. Each hook's methods, the two callbacks of the guard and the tracking backend are timed; saves
and validations are left out: none is due. A step is the time from one iteration to the next, hooks included. The share
is printed for each hook, for those of Terrace and for all.
"""

import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from projects.engine.cli import Parser, run
from projects.engine.config import load_config
from projects.engine.files import write_json
from projects.engine.runner import build_runner
from projects.landcover.data.prepare import Options, prepare

CONFIG = Path(__file__).resolve().parents[2] / 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
POINTS = [f'{when}_{what}' for when in ('before', 'after')
          for what in ('train', 'train_epoch', 'train_iter', 'iteration')]
POINTS += ['save_point']
INNER = {'GuardHook': ('_remember', '_check_gradients')}
WARM_UP = 5


def make_data(folder: Path) -> Path:
    """Write and prepare 16 pairs of 320 x 320 pixels."""
    generator = np.random.default_rng(0)
    for index in range(18):
        labels = np.kron(generator.integers(0, 6, (5, 5), dtype=np.uint8), np.ones((64, 64), np.uint8))
        image = np.clip(labels[..., None] * 40 + generator.integers(0, 40, (320, 320, 3)), 0, 255).astype(np.uint8)
        for name, array in (('images', image), ('masks', labels)):
            (folder / 'source' / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / 'source' / name / f'site{index:02d}_a.png'), array)
    groups = [f'site{index:02d}' for index in range(18)]
    prepare(folder / 'source', folder / 'data', Options(
        layout='folder', group_regex='^(site\\d+)_', assign={'train': groups[:16], 'val': groups[16:17],
                                                             'test': groups[17:]}))
    return folder / 'data'


class Clock:
    """Seconds by name, since the last warm-up; a call within a timed call counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = False

    def timed(self, name: str, method: Any) -> Any:
        """Return the method, timed under a name."""
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return method(*args, **kwargs)
            self._inside, begun = True, time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - begun
                self._inside = False

        return call


def measure(iterations: int, crop: int, batch_size: int) -> dict[str, Any]:
    """Train and return the median step in seconds, and the seconds an iteration in each hook."""
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder))
        config = load_config(CONFIG, {
            'data_root': str(data), 'crop_size': (crop, crop), 'batch_size': batch_size, 'num_workers': 1,
            'train_cfg.max_iters': iterations + WARM_UP, 'train_cfg.val_interval': 10**6,
            'default_hooks.checkpoint.save_last': False, 'warmup_iters': 1})
        config.val_dataloader = config.val_cfg = config.val_evaluator = None
        config.default_hooks.checkpoint.save_best = None
        runner = build_runner(config, Path(folder) / 'run')
        clock, begun, steps = Clock(), [0.0], []
        for hook in runner.hooks:
            name = type(hook).__name__
            for point in (*POINTS, *INNER.get(name, ())):
                if hasattr(hook, point):
                    setattr(hook, point, clock.timed(name, getattr(hook, point)))
        step = runner.__class__.call_hook

        def call_hook(name: str, **kwargs: Any) -> None:
            if name == 'before_train_iter':
                now = time.perf_counter()
                if runner.iter == WARM_UP:
                    clock.seconds.clear()
                    steps.clear()
                elif begun[0]:
                    steps.append(now - begun[0])
                begun[0] = now
            step(runner, name, **kwargs)

        runner.call_hook = call_hook
        runner.train()
        runner.visualizer.close()
    ours = {type(hook).__name__: type(hook).__module__.startswith('projects.') for hook in runner.hooks}
    each = {name: seconds / iterations for name, seconds in sorted(clock.seconds.items(), key=lambda pair: -pair[1])}
    median = statistics.median(steps)
    return {'step_seconds': median, 'iterations': iterations, 'hook_seconds': each, 'terrace': sorted(
        name for name, own in ours.items() if own),
        'share_terrace': sum(seconds for name, seconds in each.items() if ours[name]) / median,
        'share_all': sum(each.values()) / median}


def main() -> None:
    parser = Parser(description='Time inside the hooks of a training, as a share of its steps.')
    parser.add_argument('--iterations', type=int, default=60)
    parser.add_argument('--crop', type=int, default=256, help='side of the crops in pixels')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--json', metavar='FILE', help='write the figures')
    args = parser.parse_args()
    os.environ.setdefault('WANDB_MODE', 'offline')
    found = measure(args.iterations, args.crop, args.batch_size)
    print(f'step: {1000 * found["step_seconds"]:.0f} ms (median of {found["iterations"]})')
    for name, seconds in found['hook_seconds'].items():
        own = 'Terrace' if name in found['terrace'] else 'MMEngine'
        print(f'{name:32} {own:9} {1000 * seconds:8.3f} ms  {100 * seconds / found["step_seconds"]:6.3f} %')
    print(f'{"Terrace":42} {100 * found["share_terrace"]:19.3f} %')
    print(f'{"all hooks":42} {100 * found["share_all"]:19.3f} %')
    if args.json:
        write_json(args.json, found)


if __name__ == '__main__':
    run(main)
