"""A town from the scanner to scores: prepared, split, trained (killed, resumed, in two processes), classified."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

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
warmup_iters = 1
train_cfg = dict(max_iters=6, val_interval=6)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


def tool(name, *arguments, status=0):
    """Run a tool; return what it printed."""
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / name, *map(str, arguments)], capture_output=True, text=True, cwd='/',
        env=dict(os.environ, OMP_NUM_THREADS='1', WANDB_MODE='disabled'))
    assert done.returncode == status, f'{name}: {done.stdout[-1500:]} {done.stderr[-1500:]}'
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A town of one tile in a store of four blocks, a config, and runs: whole, killed and resumed, of two processes."""
    folder = tmp_path_factory.mktemp('lidar')
    tool('lidar/make_town.py', '--out', folder / 'town', '--seed', 3, '--extent', 110, '--density', 4)
    tool('lidar/prepare.py', folder / 'town', '--out', folder / 'store', '--config',
         ROOT / 'configs/lidar/_base_/scales.py', '--scales', 50, '--block-size', 55)
    tool('lidar/split.py', folder / 'store', '--ratios', 0.5, 0.25, 0.25)
    (folder / 'small.py').write_text(SMALL.format(
        config=str(ROOT / 'configs/lidar/hybrid-tiny_mixed_town.py'), store=str(folder / 'store')))
    runs = {'whole': [{}], 'two': [{'ranks': 2}],
            'killed': [{'environment': {'TERRACE_FAIL_POINT': 'before_write:iter_4.pth'}}, {}]}
    plan = folder / 'plan.json'
    plan.write_text(json.dumps({'config': str(folder / 'small.py'),
                                'runs': {str(folder / name): lives for name, lives in runs.items()}}))
    done = subprocess.run([sys.executable, LIVES, plan], capture_output=True, text=True, cwd='/',
                          env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-2000:]
    ended = {Path(name).name: codes for name, codes in json.loads(plan.with_suffix('.done').read_text()).items()}
    assert ended == {'whole': [0], 'two': [0], 'killed': [-9, 0]}, (folder / 'whole.log').read_text()[-2000:]
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


def test_a_killed_training_ends_with_the_same_bits(place):
    assert state(place / 'whole/iter_6.pth') == state(place / 'killed/iter_6.pth')


def test_two_processes_leave_no_parameter_unused(place):
    log = (place / 'two.log').read_text()
    losses = [float(loss) for loss in re.findall(r'Iter\(train\).* loss: ([\d.]+)', log)]
    assert len(losses) == 6 and all(np.isfinite(losses)) and 'find_unused_parameters=True' not in log


def test_the_table_has_points_by_size_of_building(place):
    table = json.loads((place / 'whole/evaluation/val/points.json').read_text())
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


@pytest.mark.parametrize(('options', 'told'), [
    (['data_root=nowhere'], 'nowhere'), (["scales='75',"], '75')], ids=['no store', 'no such scale'])
def test_bad_input_is_one_line(place, options, told):
    printed = tool('train.py', place / 'small.py', '--work-dir', place / 'refused', '--cfg-options', *options, status=2)
    lines = [line for line in printed.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and told in lines[0] and 'Traceback' not in printed
