"""A small prepared data set, and tools run the way a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.landcover.data.prepare import Options, prepare
from projects.landcover.taxonomy import get_taxonomy

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py'
SMALL = ['crop_size=(64,64)', 'batch_size=2', 'num_workers=0', 'default_hooks.logger.interval=1']
ITERATIONS = ['train_cfg.max_iters=4', 'train_cfg.val_interval=2', 'warmup_iters=1']


@pytest.fixture(scope='session')
def config() -> Path:
    """The config that trains on a CPU."""
    return CONFIG


@pytest.fixture(scope='session')
def prepared(tmp_path_factory) -> Path:
    """Twelve images of two bright halves each, six for training, three to validate, three to test."""
    folder = tmp_path_factory.mktemp('source')
    generator = np.random.default_rng(0)
    palette = np.array(get_taxonomy('landcover6').palette, np.uint8)
    for index in range(12):
        mask = np.full((64, 64), generator.integers(0, 6), np.uint8)
        mask[:, generator.integers(16, 48):] = generator.integers(0, 6)
        image = np.clip(palette[mask].astype(int) + generator.integers(-20, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
        for name, array in (('images', image[..., ::-1]), ('masks', mask)):
            (folder / name).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name / f'site{index:02d}_a.png'), array)
    out = tmp_path_factory.mktemp('data') / 'prepared'
    groups = [f'site{index:02d}' for index in range(12)]
    prepare(folder, out, Options(
        layout='folder', group_regex='^(site\\d+)_',
        assign={'train': groups[:6], 'val': groups[6:9], 'test': groups[9:]}))
    return out


@pytest.fixture(scope='session')
def tool(request):
    """Run a tool from a foreign directory; return what it printed, or with `refused` its one line of error.

    With `options`, it works on the small prepared data set.
    """

    def call(name: str, *arguments: object, options: list[str] | None = None, refused: bool = False,
             epochs: bool = False, **environment: str) -> str:
        path = ROOT / 'tools' / name
        command = [*(['bash'] if path.suffix == '.sh' else [sys.executable]), str(path), *map(str, arguments)]
        if options is not None:
            data_root = request.getfixturevalue('prepared')
            command += ['--cfg-options', f'data_root={data_root}', *SMALL, *([] if epochs else ITERATIONS), *options]
        done = subprocess.run(
            command, cwd='/', text=True, capture_output=True,
            env=dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable, **environment))
        printed = done.stdout + done.stderr
        if not refused:
            assert done.returncode == 0, printed[-3000:]
            return printed
        lines = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
        assert done.returncode == 2 and len(lines) == 1 and 'Traceback' not in printed, printed[-3000:]
        return lines[0]

    return call
