"""A training killed at any moment goes on to the same bits: weights, averages, moments, slow weights, schedules."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from projects.engine.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow
LIVES = Path(__file__).with_name('lives.py')
SMALL = """
_base_ = [{config!r}, {ema!r}]
data_root = {prepared!r}
crop_size = (64, 64)
batch_size = 2
num_workers = 2
warmup_iters = 2
mosaic_prob = 0.5
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=(8, 16, 32, 64), channels=16, num_heads=2, dropout_ratio=0.3))
optim_wrapper = dict(accumulative_counts=2)
train_cfg = dict(max_iters=24, val_interval=8)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=4, keep_best=2))
"""


def flat(value, place=''):
    """Yield (place, leaf) of nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        yield place, value
    else:
        for key, item in items:
            yield from flat(item, f'{place}.{key}')


def state(path):
    """What the next iteration depends on; left out: the clock and the log."""
    return dict(flat({key: value for key, value in read_checkpoint(path).items()
                      if key not in ('meta', 'message_hub')}))


def differences(first, second):
    """The places where two states are not equal bit for bit."""
    def same(one, two):
        if isinstance(one, torch.Tensor):
            return one.dtype == two.dtype and one.shape == two.shape and one.numpy().tobytes() == two.numpy().tobytes()
        return one == two or (one != one and two != two)

    assert first.keys() == second.keys()
    return [place for place in first if not same(first[place], second[place])]


@pytest.fixture
def small(prepared, config, repository, tmp_path):
    """A config with everything that has a state: EMA, Lookahead, accumulation, dropout, mosaic, workers."""
    path = tmp_path / 'small.py'
    path.write_text(SMALL.format(
        config=str(config), prepared=str(prepared), ema=str(repository / 'configs/_base_/ema.py')))
    return path


def lead(config, folder, runs):
    """Live these lives; return how each ended, by name."""
    plan = folder / 'plan.json'
    plan.write_text(json.dumps(
        {'config': str(config), 'runs': {str(folder / name): lives for name, lives in runs.items()}}))
    done = subprocess.run([sys.executable, LIVES, plan], capture_output=True, text=True, cwd='/',
                          env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-2000:]
    ended = json.loads(plan.with_suffix('.done').read_text())
    return {Path(name).name: codes for name, codes in ended.items()}


def check_all(folder, ended, last='iter_24.pth'):
    whole = state(folder / 'whole' / last)
    best = {path.name for path in (folder / 'whole').glob('best_*.pth')}
    assert len(best) == 2 and sum('ema_state_dict' in place for place in whole) > 50
    for name, codes in ended.items():
        log = (folder / f'{name}.log').read_text()[-1500:]
        assert codes[-1] == 0, f'{name} {codes}: {log}'
        assert differences(whole, state(folder / name / last)) == [], name
        assert {path.name for path in (folder / name).glob('best_*.pth')} == best, name
        assert not list((folder / name).glob('.*.pth')), name
    for name in best:
        weights = state(folder / 'whole' / name)
        assert all(not differences(weights, state(folder / other / name)) for other in ended)


def random_kills(number, seed, iters):
    """Lives that end within two steps after a line of the log: a quick machine kills as many as a slow one."""
    generator = random.Random(seed)
    lines = ['Checkpoints will be saved', *(f'Iter(train) [{step:>2}/{iters}]' for step in range(1, iters - 4))]
    return {f'killed_{index}': [{'log': generator.choice(lines), 'fraction': generator.uniform(0, 2 / iters)}, {}]
            for index in range(number)}


@pytest.mark.timeout(900)
def test_killed_at_random_moments(small, tmp_path):
    ended = lead(small, tmp_path, {'whole': [{}], **random_kills(24, seed=1, iters=24)})
    assert sum(codes[0] == -9 for codes in ended.values()) >= 20, ended
    check_all(tmp_path, ended)


@pytest.mark.minutes
@pytest.mark.timeout(7200)
def test_killed_two_hundred_times(small, tmp_path):
    short = tmp_path / 'short.py'
    short.write_text(f'_base_ = {str(small)!r}\ntrain_cfg = dict(max_iters=12, val_interval=4)\n'
                     'default_hooks = dict(checkpoint=dict(interval=2))\n')
    ended = lead(short, tmp_path, {'whole': [{}], **random_kills(206, seed=2, iters=12)})
    assert sum(codes[0] == -9 for codes in ended.values()) >= 200
    check_all(tmp_path, ended, 'iter_12.pth')


@pytest.mark.timeout(900)
def test_killed_at_every_step_of_the_writer(small, tmp_path):
    moments = ['before_write', 'half_written', 'before_fsync', 'before_rename']
    runs = {f'{moment}_{kind}': [{'environment': {'TERRACE_FAIL_POINT': f'{moment}:{pattern}'}}, {}]
            for moment in moments for kind, pattern in (('last', 'iter_12.pth'), ('best', 'best_*.pth'))}
    for name in ('iter_12.pth', 'iter_24.pth'):  # the second one: saved, and its validation is still to come
        runs[f'before_delete_{name}'] = [{'environment': {'TERRACE_FAIL_POINT': f'before_delete:{name}'}}, {}]
    ended = lead(small, tmp_path, {'whole': [{}], **runs})
    assert all(ended[name] == [-9, 0] for name in runs), ended
    check_all(tmp_path, ended)


@pytest.mark.timeout(600)
def test_a_scheduler_asks_and_epochs_end_in_the_middle(small, repository, tmp_path):
    """SIGTERM and SIGUSR1 in an epoch, in a validation; saved at once, status 75, and the bits are the same."""
    child = tmp_path / 'epochs.py'
    child.write_text(f"""_base_ = [{str(small)!r}]
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=8, val_interval=2)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=8, convert_to_iter_based=True)]
train_sampler = dict(_delete_=True, type='DefaultSampler', shuffle=True)
""")
    ended = lead(child, tmp_path, {
        'whole': [{}],
        'term': [{'log': 'Epoch(train) [1][1/3]', 'signal': 'SIGTERM'},
                 {'log': 'Epoch(train) [5][2/3]', 'signal': 'SIGUSR1'}, {}],
        'validation': [{'log': 'Epoch(val) [2][1/3]', 'signal': 'SIGTERM'}, {}],
        'killed': [{'log': 'Epoch(train) [6][1/3]'}, {}]})
    assert [codes for name, codes in ended.items()] == [[0], [75, 75, 0], [75, 0], [-9, 0]], ended
    check_all(tmp_path, ended)
    again = lead(child, tmp_path, {'whole': [{'options': {'batch_size': 1}}]})
    assert again == {'whole': [2]}
    assert 'an epoch had 3 batches and has 6 now' in (tmp_path / 'whole.log').read_text()


def test_the_workers_do_not_matter(small, tmp_path):
    ended = lead(small, tmp_path, {'whole': [{}], **{
        f'workers_{number}': [{'options': {'num_workers': number}}] for number in (0, 1)}})
    check_all(tmp_path, ended)
