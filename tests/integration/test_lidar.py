"""A town from the scanner to scores: prepared, split, trained (killed, resumed, in two processes), classified."""

import io
import json
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import laspy
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_flatten

from projects.engine.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
LIVES = Path(__file__).with_name('lives.py')
SMALL = """
_base_ = {config!r}
data_root = {store!r}
scales = ('50',)
weights = None
points = 1024
batch_size = 2
max_points = 2048
num_workers = 1
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(by_epoch=False, interval=2))
"""
UNSCORED = """
val_dataloader = val_cfg = val_evaluator = None
default_hooks['checkpoint']['save_best'] = None
"""
TOWN = """
warmup_iters = 1
train_cfg = dict(max_iters=6, val_interval=6)
"""
SCORED = """
warmup_iters = 1
train_cfg = dict(max_iters=2, val_interval=2)
"""
EXPERTS = """
model = dict(experts={size: dict(backbone=dict(widths=(16, 32, 32, 32, 32))) for size in ('50', '100', '150')})
train_cfg = dict(max_epochs=2, val_interval=2)
"""
KILLED = {'environment': {'TERRACE_FAIL_POINT': 'before_write:iter_4.pth'}}


def tool(name, *arguments):
    """Run a tool in this process, which has imported what it needs; return what it printed."""
    printed = io.StringIO()
    with (patch.object(sys, 'argv', [name, *map(str, arguments)]), redirect_stdout(printed), redirect_stderr(printed),
          pytest.raises(SystemExit) as end):
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
    assert not end.value.code, f'{name}: {printed.getvalue()[-3000:]}'
    return printed.getvalue()


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A town of one tile in a store of four blocks, configs, and runs of them."""
    folder = tmp_path_factory.mktemp('lidar')
    tool('lidar/make_town.py', '--out', folder / 'town', '--seed', 3, '--extent', 110, '--density', 4)
    tool('lidar/prepare.py', folder / 'town', '--out', folder / 'store', '--config',
         ROOT / 'configs/lidar/_base_/scales.py', '--scales', 50, '--block-size', 55)
    tool('lidar/split.py', folder / 'store', '--ratios', 0.5, 0.25, 0.25)
    for name, base, more in (('small', 'hybrid-tiny_mixed_town', UNSCORED + TOWN),
                             ('scored', 'hybrid-tiny_mixed_town', SCORED),
                             ('experts', 'hybrid_experts_lod3', UNSCORED + EXPERTS)):
        (folder / f'{name}.py').write_text(SMALL.format(
            config=str(ROOT / f'configs/lidar/{base}.py'), store=str(folder / 'store')) + more)
    experts = {'config': str(folder / 'experts.py')}
    runs = {'whole': [{}], 'killed': [KILLED, {}],
            'epochs': [experts], 'epochs-killed': [{**experts, **KILLED}, experts],
            'two': [{'config': str(folder / 'scored.py'), 'ranks': 2}],
            'two-experts': [{**experts, 'ranks': 2, 'options': {'train_cfg.max_epochs': 1}}],
            'no-store': [{'options': {'data_root': 'nowhere'}}]}
    plan = folder / 'plan.json'
    plan.write_text(json.dumps({'config': str(folder / 'small.py'),
                                'runs': {str(folder / name): lives for name, lives in runs.items()}}))
    done = subprocess.run([sys.executable, LIVES, plan], capture_output=True, text=True, cwd='/',
                          env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-2000:]
    ended = {Path(name).name: codes for name, codes in json.loads(plan.with_suffix('.done').read_text()).items()}
    failed = {name: (folder / f'{name}.log').read_text()[-2000:] for name, codes in ended.items()
              if codes[-1] != (2 if name == 'no-store' else 0)}
    assert not failed and ended['killed'] == ended['epochs-killed'] == [-9, 0], failed
    return folder


@pytest.fixture(scope='module')
def classified(place):
    """What tools/lidar/classify.py printed about the town, at the training's scale."""
    return tool('lidar/classify.py', place / 'small.py', place / 'whole/iter_6.pth', place / 'town', '--out',
                place / 'classified', '--scales', 50)


def state(path):
    leaves, structure = tree_flatten({key: value for key, value in read_checkpoint(path).items()
                                      if key not in ('meta', 'message_hub')})
    return str(structure), [leaf.numpy().tobytes() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]


@pytest.mark.parametrize(('whole', 'killed', 'last'), [
    ('whole', 'killed', 'iter_6.pth'), ('epochs', 'epochs-killed', 'iter_8.pth')])
def test_a_killed_training_ends_with_the_same_bits(place, whole, killed, last):
    assert 'resumed epoch: 0, iter: 2' in (place / f'{killed}.log').read_text()  # the middle of an epoch of four
    assert state(place / whole / last) == state(place / killed / last)


@pytest.mark.parametrize('name', ['two', 'two-experts'])
def test_two_processes_train(place, name):
    """One network uses every parameter; patches of one size leave two experts of three without gradients."""
    log = (place / f'{name}.log').read_text()
    losses = [float(loss) for loss in re.findall(r'\(train\).* loss: ([\d.]+)', log)]
    assert len(losses) == 2 and all(np.isfinite(losses))


def test_the_table_has_points_by_size_of_building(place):
    table = json.loads((place / 'two/evaluation/val/points.json').read_text())
    groups = {row['group']: row for row in table['groups']}
    assert {'all', 'border 0-2 m', 'border over 10 m'} <= set(groups)
    assert groups['all']['points'] == sum(row['points'] for name, row in groups.items() if name.startswith('border'))


def test_every_point_comes_back_once_in_order(place, classified):
    (source,), (found,) = (sorted((place / name).glob('*.laz')) for name in ('town', 'classified'))
    before, after = laspy.read(source), laspy.read(found)
    assert len(before) == len(after)
    for name in before.point_format.dimension_names:
        assert np.array_equal(before[name], after[name]), name
    assert after['terrace_class'].max() < 30 and len(np.unique(after['terrace_class'])) > 1
    assert after['terrace_confidence'].min() > 0 and after['terrace_confidence'].max() <= 1
    assert not after['terrace_disagreement'].any()  # of one scale


def test_a_rerun_does_nothing_and_scores_hold_every_class_of_the_truth(place, classified):
    (found,) = (place / 'classified').glob('*.laz')
    stamp = found.stat().st_mtime_ns
    tool('lidar/classify.py', place / 'small.py', place / 'whole/iter_6.pth', place / 'town', '--out',
         place / 'classified', '--scales', 50)
    assert found.stat().st_mtime_ns == stamp
    tool('lidar/score.py', place / 'classified', '--json', place / 'scores.json')
    level = json.loads((place / 'scores.json').read_text())['levels']['lod3']
    truth = laspy.read(found)['lod3']
    scored = {row['class'] for row in level['per_class'] if row['truth_pixels']}
    assert len(scored) == len(set(truth.tolist()) - {255})


def test_test_pictures_and_exports(place):
    tool('test.py', place / 'small.py', place / 'whole/iter_6.pth', '--work-dir', place / 'tested')
    assert json.loads((place / 'tested/evaluation/test/scores.json').read_text())['samples']
    tool('lidar/view.py', place / 'store', '--out', place / 'view.png')
    assert Image.open(place / 'view.png').size[0] > 1000
    tool('lidar/export.py', place / 'store', '--out', place / 'patches', '--scales', 50)
    patch = np.load(sorted((place / 'patches').rglob('*.npz'))[0])
    assert sorted(patch) == ['features', 'labels', 'xyz'] and patch['features'].shape == (len(patch['xyz']), 21)


def test_bad_input_is_one_line(place):
    printed = (place / 'no-store.log').read_text()
    lines = [line for line in printed.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and 'nowhere' in lines[0] and 'Traceback' not in printed
