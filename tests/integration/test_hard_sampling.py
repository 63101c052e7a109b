"""Hard sampling in real trainings: stopped and resumed it draws the same samples and ends with the same bits."""

import csv
import json
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from projects.engine.checkpoints import read_checkpoint
from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.lineage_record import read_lineage
from projects.multistage.difficulty import read_difficulty, read_weights, write_weights
from projects.multistage.publish import parse_config, publish
from projects.multistage.score_samples import score_samples

pytestmark = pytest.mark.slow
LIVES = Path(__file__).with_name('lives.py')
SMALL = """
_base_ = [{config!r}]
data_root = {prepared!r}
crop_size = (64, 64)
batch_size = 2
num_workers = 1
warmup_iters = 2
custom_imports = dict(imports=['projects.engine.register', 'projects.multiscale.register',
                               'projects.multistage.register', 'projects.evaluation.register',
                               'projects.landcover.register', 'noting_draws'], allow_failed_imports=False)
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=(8, 16, 32, 64), channels=16, num_heads=2, dropout_ratio=0.3))
train_cfg = dict(max_iters=13, val_interval=13)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=7, save_best=None))
tracking = None
val_dataloader = val_cfg = val_evaluator = None
custom_hooks = [dict(type='NoteDraws')]
train_sampler = dict(_delete_=True, type='HardSampleSampler', difficulty={difficulty!r})
"""
EPOCHS = """
_base_ = [{small!r}]
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=3, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=1))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=3, convert_to_iter_based=True)]
"""
ONLINE = """
_base_ = [{small!r}]
train_sampler = dict(difficulty=None, length=9, rule=dict(type='FocalRule', scale=9))
difficulty = dict(type='DifficultyHook', {how})
"""
NOTING = '''
"""Append the samples of each iteration to WORK_DIR/draws.csv."""
import csv
from mmengine.hooks import Hook
from mmseg.registry import HOOKS


@HOOKS.register_module()
class NoteDraws(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        with open(f'{runner.work_dir}/draws.csv', 'a') as file:
            csv.writer(file).writerow([runner.iter, *(s.sample_id for s in data_batch['data_samples'])])
'''
WEIGHTS = {'site00_a': 1.0, 'site01_a': 1.0, 'site02_a': 2.0, 'site03_a': 3.0, 'site04_a': 1.0, 'site05_a': 1.0}


@pytest.fixture(scope='module')
def small(prepared, config, tmp_path_factory):
    """A config with hard sampling: passes of 9 draws, 4 batches and one draw that is left over."""
    folder = tmp_path_factory.mktemp('hard')
    write_weights(folder / 'sample_weights.txt', WEIGHTS)
    (folder / 'noting_draws.py').write_text(NOTING)
    path = folder / 'small.py'
    path.write_text(SMALL.format(config=str(config), prepared=str(prepared),
                                 difficulty=str(folder / 'sample_weights.txt')))
    return path


@pytest.fixture(scope='module')
def ended(small):
    """How every life of every run ended; all in one process, whose imports take longer than a training."""
    folder = small.parent
    runs = {}

    def lead(kind, config, **lives):
        path = folder / f'{kind}.py'
        path.write_text(config)
        for name, some in lives.items():
            runs[str(folder / f'{kind}_{name}')] = [dict(life, config=str(path)) for life in some]

    base = str(small)
    lead('iterations', f'_base_ = [{base!r}]\n',
         whole=[{}],
         term=[{'log': 'Iter(train) [ 5/13]', 'signal': 'SIGTERM'}, {'options': {'num_workers': 0}}])
    lead('epochs', EPOCHS.format(small=base),
         whole=[{}, {'options': {'train_sampler.length': 20}}],
         term=[{'log': 'Epoch(train) [2][2/4]', 'signal': 'SIGTERM'}, {}])
    lead('online', ONLINE.format(small=base, how='interval=1, begin=0'),
         whole=[{}],
         term=[{'log': 'Iter(train) [ 5/13]', 'signal': 'SIGTERM'}, {'options': {'num_workers': 0}}])
    lead('often', ONLINE.format(small=base, how='interval=3, by_epoch=False'),
         whole=[{}],
         killed=[{'log': 'Iter(train) [ 9/13]'}, {}])
    # A rule that gives all images one weight: the bits of a training without the hook.
    lead('alike', ONLINE.format(small=base, how="interval=2, begin=0, by_epoch=False, rule=dict(type='SeedRule', "
                                                'steps=())'),
         scored=[{}])
    lead('without', ONLINE.format(small=base, how='interval=1') + 'difficulty = None\n', hook=[{}])
    plan = folder / 'plan.json'
    plan.write_text(json.dumps({'runs': runs}))
    done = subprocess.run([sys.executable, LIVES, plan], capture_output=True, text=True, cwd='/',
                          env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(folder)))
    assert done.returncode == 0, done.stderr[-2000:]
    return {Path(name).name: codes for name, codes in json.loads(plan.with_suffix('.done').read_text()).items()}


def log(folder, name):
    return (folder / f'{name}.log').read_text()


def draws(folder):
    """The samples of each iteration; what a run did twice it must have done alike."""
    found = {}
    for number, *ids in csv.reader((folder / 'draws.csv').open()):
        assert found.setdefault(int(number), ids) == ids
    return found


def states(path):
    """Weights and moments in a checkpoint, and the states of the difficulty hook."""
    found = read_checkpoint(path)
    moments = [value for state in found['optimizer']['state'].values() for value in state.values()]
    return {**found['state_dict'], **{f'moment_{index}': value for index, value in enumerate(moments)}}, [
        rank['hooks'].get('DifficultyHook') for rank in found['ranks']]


def differences(first, second):
    assert first.keys() == second.keys()
    return [key for key in first if isinstance(first[key], torch.Tensor)
            and first[key].numpy().tobytes() != second[key].numpy().tobytes()]


def check_same(folder, whole, other, last='iter_13.pth'):
    """Two runs drew the same samples and have the same bits; return the draws and the state of the hook."""
    (weights, hooks), (others, other_hooks) = states(folder / whole / last), states(folder / other / last)
    assert draws(folder / other) == draws(folder / whole)
    assert differences(weights, others) == [] and str(hooks) == str(other_hooks)
    return draws(folder / whole), hooks[0]


def test_iterations_stopped_and_resumed(ended, small):
    assert ended['iterations_whole'] == [0] and ended['iterations_term'] == [75, 0]
    found, _ = check_same(small.parent, 'iterations_whole', 'iterations_term')
    assert sorted(found) == list(range(13))
    passes = [sum((found[number] for number in range(4 * index, 4 * index + 4)), []) for index in range(3)]
    for drawn in passes:  # nine draws less the one that makes no batch
        assert sum((Counter(WEIGHTS) - Counter(drawn)).values()) == 1 and not Counter(drawn) - Counter(WEIGHTS)
    assert len({tuple(drawn) for drawn in passes}) == 3


def test_epochs_stopped_and_resumed(ended, small):
    assert ended['epochs_term'] == [75, 0]
    found, _ = check_same(small.parent, 'epochs_whole', 'epochs_term', 'iter_12.pth')
    assert sorted(found) == list(range(12))
    assert ended['epochs_whole'] == [0, 2]  # a longer pass is another training
    assert 'an epoch had 4 batches and has 10 now' in log(small.parent, 'epochs_whole')


def test_weights_that_follow_the_network(ended, small):
    """Scored before the training and after each pass."""
    assert ended['online_whole'] == [0] and ended['online_term'] == [75, 0]
    _, state = check_same(small.parent, 'online_whole', 'online_term')
    assert all(f'weights from pass {number} on' in log(small.parent, 'online_whole') for number in (0, 1, 2, 3))
    assert [change['iteration'] for change in state['changes']] == [8, 12]
    held = state['changes'][-1]
    assert held['ids'] == sorted(WEIGHTS) and len(set(held['weights'].tolist())) > 1


def test_weights_scored_within_a_pass_wait_for_the_next(ended, small):
    """Scored every three iterations of passes of four; killed in a pass whose weights are not the latest ones."""
    assert ended['often_whole'] == [0] and ended['often_killed'] == [-9, 0]
    _, state = check_same(small.parent, 'often_whole', 'often_killed')
    assert [change['iteration'] for change in state['changes']] == [6, 12]  # 9 would begin with pass 3, as 12 does
    assert draws(small.parent / 'often_whole') != draws(small.parent / 'without_hook')


def test_scoring_leaves_the_training_alone(ended, small):
    assert ended['alike_scored'] == ended['without_hook'] == [0]
    weights, hooks = states(small.parent / 'alike_scored/iter_13.pth')
    others, none = states(small.parent / 'without_hook/iter_13.pth')
    assert draws(small.parent / 'without_hook') == draws(small.parent / 'alike_scored')
    assert none == [None] and hooks[0]['changes'] and differences(weights, others) == []


@pytest.fixture
def tool(repository, capsys, monkeypatch, small):
    """Run tools/landcover/score_samples.py in this process; return what it printed."""

    def call(*arguments):
        monkeypatch.syspath_prepend(small.parent)
        monkeypatch.setattr(sys, 'argv', ['score_samples.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(repository / 'tools/landcover/score_samples.py'), run_name='__main__')
        assert not stop.value.code
        return capsys.readouterr().out

    return call


def test_scores_make_a_difficulty_file_and_the_tables(ended, tool, small, tmp_path):
    checkpoint = small.parent / 'iterations_whole/iter_13.pth'
    out = tmp_path / 'scores/difficulty.json'
    printed = tool(small, checkpoint, '--out', out, '--weights', tmp_path / 'w/sample_weights.txt', '--analysis',
                   tmp_path / 'w/hard_samples_analysis.json', '--rule', 'FocalRule', 'gamma=1', 'floor=0.5')
    found = json.loads(out.read_text())
    assert sorted(found['samples']) == sorted(WEIGHTS) and found['checkpoint']['file'] == 'iter_13.pth'
    weights = read_weights(tmp_path / 'w/sample_weights.txt')
    for name, sample in found['samples'].items():
        known = [value for value in sample['iou'].values() if value is not None]
        assert sample['mIoU'] == pytest.approx(sum(known) / len(known)) and sum(sample['pixels'].values()) == 64 * 64
        assert weights[name] == pytest.approx(max(0.5, 6 * (1 - sample['mIoU'])))
    assert read_difficulty(tmp_path / 'w/hard_samples_analysis.json').samples == read_difficulty(out).samples
    assert f'Unique images: 6\nEffective samples per epoch: {round(sum(weights.values()))} (' in printed
    assert 'Difficulty by class (IoU < 0.5)' in printed


def test_a_published_config_names_the_difficulty_file_without_its_place(ended, small, tmp_path):
    publish(small.parent / 'iterations_whole/iter_13.pth', tmp_path / 'out')
    config = parse_config((tmp_path / 'out/config.py').read_text(), 'config')
    assert config['train_dataloader']['sampler']['difficulty'] == 'sample_weights.txt'
    assert read_lineage(tmp_path / 'out')['files'][0]['sha256'] == sha256_of(small.parent / 'sample_weights.txt')


@pytest.mark.parametrize('rule, told', [
    (['SeedRul'], "rule: 'SeedRul' is not registered; did you mean SeedRule?"),
    (['SeedRule', 'focus'], "--rule: expected KEY=VALUE, found 'focus'"),
    (['focus=a'], "--rule: expected the name of a rule first, found 'focus=a'"),
    (['SeedRule', 'focus=Forrest Land,Grassland'],
     "SeedRule.focus: 'Forrest Land' is none of the classes (Background, Forest Land, Grassland, Cropland, Settlement, "
     'SemiNatural Grassland); did you mean Forest Land?')])
def test_a_wrong_rule_is_told_before_the_scoring(config, tmp_path, rule, told):
    with pytest.raises(UserError, match=re.escape(told)):
        score_samples(config, tmp_path / 'no.pth', tmp_path / 'd.json', rule=rule)
