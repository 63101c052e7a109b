"""A sweep of real trainings: to its end, stopped early, ended and called again."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from projects.engine.sweep.definition import read_sweep
from projects.engine.sweep.run import Sweeper

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(tmp_path, prepared, config):
    """Write a sweep over tiny trainings."""

    def write(parameters, **more):
        constants = {
            'data_root': str(prepared), 'crop_size': [64, 64], 'batch_size': 2, 'num_workers': 0, 'warmup_iters': 1,
            'default_hooks.logger.interval': 1, 'precision.cpu.amp': False}
        path = tmp_path / 'sweep.yaml'
        path.write_text(yaml.safe_dump({
            'program': 'tools/train.py', 'method': 'grid', 'metric': {'name': 'val/mIoU', 'goal': 'maximize'},
            'parameters': {**{name: {'value': value} for name, value in constants.items()}, **parameters},
            'command': ['${env}', '${interpreter}', '${program}', str(config), '--cfg-options', '${args_no_hyphens}'],
            **more}))
        return path

    return write


def results(folder):
    with open(folder / 'results.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_a_strong_trial_ends_and_a_weak_one_is_stopped(tool, sweep, tmp_path):
    path = sweep({'optim_wrapper.optimizer.lr': {'values': [1e-2, 1e-9]}, 'train_cfg.max_iters': {'values': [8, 5000]},
                  'train_cfg.val_interval': {'value': 8}}, method='random', run_cap=2,
                 metric={'name': 'train/loss', 'goal': 'minimize'},
                 early_terminate={'type': 'hyperband', 'min_iter': 8, 'eta': 6, 'strict': True})
    seed = next(seed for seed in range(1000)  # a short strong trial first, then a weak one that would be long
                if [(trial['optim_wrapper.optimizer.lr'], trial['train_cfg.max_iters'])
                    for trial in Sweeper(read_sweep(path), tmp_path, seed=seed).planned] == [(1e-2, 8), (1e-9, 5000)])
    printed = tool('sweep.py', path, '--work-dir', tmp_path / 'out', '--seed', seed, WANDB_MODE='disabled')
    rows = results(tmp_path / 'out')
    assert [(row['trial'], row['status']) for row in rows] == [('1', 'finished'), ('2', 'stopped')], printed
    assert float(rows[0]['best']) < float(rows[1]['best'])
    work_dir = tmp_path / 'out' / 'trial_2'
    step = int((work_dir / 'last_checkpoint').read_text().strip().removesuffix('.pth').rpartition('_')[2])
    assert 8 <= step < 5000  # it has saved what it had
    assert 'trial 2: stopped' in printed and 'train/loss' in printed.splitlines()[-4]


def test_an_ended_sweep_goes_on_and_its_trial_too(tool, sweep, tmp_path):
    path = sweep({'randomness.seed': {'values': [1]}, 'train_cfg.max_iters': {'value': 30},
                  'train_cfg.val_interval': {'value': 15}})
    out = tmp_path / 'out'
    process = subprocess.Popen(
        [sys.executable, 'tools/sweep.py', str(path), '--work-dir', str(out)], stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1', WANDB_MODE='disabled'))
    limit = time.monotonic() + 120
    while not any('"iter": 5,' in file.read_text() for file in out.glob('trial_1/*/vis_data/scalars.json')):
        assert process.poll() is None and time.monotonic() < limit, (out / 'trial_1.log').read_text()[-2000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 75, printed
    trial, = json.loads((out / 'sweep.json').read_text())['trials']
    assert trial['status'] == 'preempted'
    printed = tool('sweep.py', path, '--work-dir', out, WANDB_MODE='disabled')
    rows = results(out)
    assert [(row['trial'], row['status']) for row in rows] == [('1', 'finished')], printed
    assert rows[0]['at iteration'] in ('15', '30')
    assert len(list((out / 'trial_1').glob('*/vis_data/scalars.json'))) == 2  # two starts of one run


def test_a_misspelt_parameter_is_one_line_and_costs_nothing(tool, sweep, tmp_path):
    path = sweep({'optim_wrapper.optimizr.lr': {'values': [1e-2]}})
    line = tool('sweep.py', path, '--work-dir', tmp_path / 'out', '--dry-run', refused=True)
    assert 'optim_wrapper has no key' in line and 'did you mean optimizer?' in line
    assert not (tmp_path / 'out').exists()
