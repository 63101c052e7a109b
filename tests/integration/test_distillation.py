"""A stage with a teacher: warm-up, hard samples, EMA, killed and resumed; kept views; two processes; publishing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS

from projects.engine.checkpoints import load_weights, read_checkpoint
from projects.engine.config import load_config
from projects.engine.files import sha256_of
from projects.engine.inference import load_model
from projects.engine.lineage_record import read_lineage
from projects.engine.scalars import read_scalars
from projects.multistage.difficulty import Difficulty
from projects.multistage.difficulty_rules import FocalRule
from projects.multistage.publish import publish
from projects.multistage.scoring import score_images, whole_images

pytestmark = pytest.mark.slow
LIVES = Path(__file__).with_name('lives.py')
IMPORTS = ("custom_imports = dict(imports=['projects.engine.register', 'projects.multiscale.register', "
           "'projects.multistage.register', 'projects.evaluation.register', 'projects.landcover.register'{}], "
           'allow_failed_imports=False)\n')
SMALL = """
data_root = {prepared!r}
crop_size = (64, 64)
batch_size = 2
num_workers = 0
tracking = None
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=(8, 16, 32, 64), channels=16, num_heads=2))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={interval}))
distil = dict(type='DistilledSegmentor', teacher_checkpoint={teacher!r},
              loss=dict(type='ConfidenceMaskedKDLoss', threshold=0.25))
loss_schedule = dict(
    type='StageWarmupHook', by_epoch='${{train_cfg.by_epoch}}',
    weights=dict(hard_weight=[(0, 1.0), ({start}, 0.3)], kd_weight=[(0, 0.0), ({start}, 0.7)]))
"""
ITERATIONS = 'train_cfg = dict(max_iters=8, val_interval=8)\nwarmup_iters = 1\n'
HARD = """
train_sampler = dict(_delete_=True, type='HardSampleSampler', difficulty=None, length=6,
                     rule=dict(type='FocalRule', scale=9))
difficulty = dict(type='DifficultyHook', interval=4, by_epoch=False)
"""
EPOCHS = """
augmentation_views = 2
train_cfg = dict(val_interval=3)
param_scheduler = [dict(type='CosineRestartLR', periods=[1, 2], restart_weights=[1, 1], eta_min=0.0, by_epoch=True)]
distil['cache'] = {cache!r}
"""
STATES = """
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

@HOOKS.register_module()
class TeacherStateHook(Hook):
    priority = 'LOWEST'
    def after_train(self, runner):
        assert not runner.model.find_unused_parameters
        model = runner.model.module
        torch.save({'teacher': model.teacher.network.state_dict(), 'student': model.state_dict()},
                   f'{runner.work_dir}.rank{runner.rank}.pt')
"""
CLASSES = ['Background', 'Forest Land', 'Grassland', 'Cropland', 'Settlement', 'SemiNatural Grassland']


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return tmp_path_factory.mktemp('distil')


@pytest.fixture(scope='module')
def teacher(place, config):
    """A checkpoint of random weights that are sure of something, and one whose classes stand in another order."""
    cfg = load_config(config, {'model.backbone.stem_channels': 8, 'model.backbone.base_channels': 8,
                               'model.decode_head.in_channels': (8, 16, 32, 64), 'model.decode_head.channels': 16,
                               'model.decode_head.num_heads': 2})
    torch.manual_seed(3)
    network = MODELS.build(cfg.model)
    network.init_weights()
    with torch.no_grad():
        network.decode_head.conv_seg.weight.mul_(300)
    permuted = [CLASSES[index] for index in (0, 2, 1, 3, 4, 5)]
    for name, classes in (('teacher.pth', CLASSES), ('permuted.pth', permuted)):
        torch.save({'meta': {'dataset_meta': {'classes': classes}}, 'state_dict': network.state_dict()}, place / name)
    return place / 'teacher.pth'


@pytest.fixture(scope='module')
def ended(place, teacher, config, prepared, repository):
    """How every life of every run ended; all in one process."""
    runs = {}

    def lead(kind, text, *lives, start=5, interval=4, bases=None, teacher=teacher):
        path = place / f'{kind}.py'
        small = SMALL.format(prepared=str(prepared), teacher=str(teacher), start=start, interval=interval)
        path.write_text(f'_base_ = {bases or [str(config)]!r}\n{small}{text}')
        for name, some in lives:
            runs[str(place / name)] = [dict(life, config=str(path)) for life in some]

    lead('iterations', ITERATIONS + HARD,
         ('whole', [{}]),
         ('killed', [{'environment': {'TERRACE_FAIL_POINT': 'before_write:iter_8.pth'}},
                     {'options': {'num_workers': 1}}]),
         bases=[str(config), str(repository / 'configs/_base_/ema.py')])
    (place / 'epochs_base.py').write_text('_base_ = ' + repr([str(repository / 'configs' / name) for name in (
        '_base_/runtime.py', '_base_/tracking.py', '_base_/schedules/adamw_lookahead.py',
        '_base_/schedules/restarts_45_epochs.py', 'landcover/_base_/data_prepared.py',
        'landcover/_base_/model_ftunetformer_tiny.py')]))
    lead('epochs', EPOCHS.format(cache=str(place / 'cache')),
         ('epochs', [{'options': {'train_cfg.max_epochs': 1}}, {'options': {'train_cfg.max_epochs': 3}}]),
         start=2, interval=1, bases=[str(place / 'epochs_base.py')])
    lead('permuted', ITERATIONS, ('refused', [{}]), teacher=place / 'permuted.pth')
    (place / 'teacher_state.py').write_text(STATES)
    lead('ranks', ITERATIONS + IMPORTS.format(", 'teacher_state'") + "custom_hooks = [dict(type='TeacherStateHook')]\n",
         ('ranks', [{'ranks': 2, 'options': {'train_cfg.max_iters': 3}}]), start=1)
    plan = place / 'plan.json'
    plan.write_text(json.dumps({'runs': runs}))
    done = subprocess.run([sys.executable, LIVES, plan], capture_output=True, text=True, cwd='/',
                          env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(place)))
    assert done.returncode == 0, done.stderr[-2000:]
    found = {Path(name).name: codes for name, codes in json.loads(plan.with_suffix('.done').read_text()).items()}
    assert found == {'whole': [0], 'killed': [-9, 0], 'epochs': [0, 0], 'refused': [2], 'ranks': [0]}, {
        name: (place / f'{name}.log').read_text()[-1500:] for name in found}


def kd_by_iteration(work_dir):
    return {row.iteration: row.values.get('loss_kd') for row in read_scalars(work_dir) if row.kind == 'train'}


def test_a_warm_up_ends_when_it_should_also_through_a_resume(ended, place):
    told = (place / 'whole.log').read_text()
    assert told.count('loss weights from iteration 1 on: hard_weight 1, kd_weight 0') == 1
    assert told.count('loss weights from iteration 6 on: hard_weight 0.3, kd_weight 0.7') == 1
    for run in ('whole', 'killed'):
        rows = {row.iteration: row.values for row in read_scalars(place / run) if row.kind == 'train'}
        assert [rows[number]['loss_kd'] for number in range(1, 6)] == [0.0] * 5
        assert min(rows[number]['loss_kd'] for number in (6, 7, 8)) > 0
        assert 0 < rows[6]['kd/kept_share'] <= 1 and 'kd/kept_share' not in rows[5]
    assert 'Load checkpoint from' in (place / 'killed.log').read_text()
    whole, killed = (read_checkpoint(place / run / 'iter_8.pth') for run in ('whole', 'killed'))
    for key in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, killed[key][name]) for name, value in whole[key].items())


def test_a_checkpoint_holds_the_student_alone(ended, place, teacher):
    whole, own = read_checkpoint(place / 'whole/iter_8.pth'), read_checkpoint(teacher)['state_dict']  # same network
    assert list(whole['state_dict']) == list(own)
    assert set(whole['ema_state_dict']) == {'steps', *(f'module.{key}' for key in own)}
    assert not any(torch.equal(value, own[key]) for key, value in whole['state_dict'].items()
                   if value.dim() == 4)  # nothing of the teacher's
    assert {group['name'] for group in whole['optimizer']['param_groups']} == {
        'backbone', 'backbone without decay', 'rest', 'rest without decay'}
    record = read_lineage(place / 'whole')
    assert [(parent['role'], parent['file'], parent['sha256']) for parent in record['parents']] == [
        ('teacher', 'teacher.pth', sha256_of(teacher))]
    assert 'student' not in record['config']['text']  # the config as it was written


def test_difficulty_is_that_of_the_weights_in_training(ended, place):
    """Not that of their average, which a checkpoint has in front."""
    checkpoint = read_checkpoint(place / 'whole/iter_4.pth')
    (change,) = checkpoint['ranks'][0]['hooks']['DifficultyHook']['changes']
    cfg = load_config(place / 'iterations.py')
    dataset, model = whole_images(cfg), MODELS.build(cfg.model)
    trained = {key.removeprefix('module.'): value for key, value in checkpoint['ema_state_dict'].items()
               if key != 'steps'}
    found = []
    for state in (trained, checkpoint['state_dict']):
        model.load_state_dict(state)
        scored = Difficulty(tuple(CLASSES), dict(score_images(model, dataset, range(len(dataset)))))
        found.append(FocalRule(scale=9)(scored))
    assert change['iteration'] == 4
    assert dict(zip(change['ids'], change['weights'].tolist())) == pytest.approx(found[0])
    assert found[0] != found[1]


def test_it_is_tested_and_published_as_a_plain_network(ended, tool, place, teacher):
    checkpoint, out = place / 'whole/iter_8.pth', place / 'out'
    tool('test.py', place / 'iterations.py', checkpoint, '--work-dir', place / 'test', options=[], epochs=True)
    publish(checkpoint, out)
    text = (out / 'config.py').read_text()
    assert not any(word in text for word in ('distil', 'teacher', 'loss_schedule', str(place)))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits = []
    for config, weights in ((place / 'iterations.py', checkpoint), (out / 'config.py', out / 'model.safetensors')):
        model, _ = load_model(config, weights, device='cpu')
        with torch.inference_mode():
            logits.append(model(images))
    assert type(model).__name__ == 'EncoderDecoder' and torch.equal(*logits)
    assert read_lineage(out)['parents'][0]['sha256'] == sha256_of(teacher)  # where it comes from is still told


def test_epochs_with_kept_views_through_a_resume(ended, place):
    found = kd_by_iteration(place / 'epochs')  # three batches an epoch; the resume falls into the warm-up
    assert [found[number] for number in range(1, 7)] == [0.0] * 6 and min(found[number] for number in (7, 8, 9)) > 0
    assert len(list((place / 'cache').rglob('*.npz'))) == 6  # six images, one view of each in the one epoch of KD


def test_a_teacher_with_permuted_classes_is_refused(ended, place):
    told = (place / 'refused.log').read_text()
    assert 'the classes of the student in another order: expected Background, Forest Land, Grassland' in told
    assert 'found Background, Grassland, Forest Land' in told and 'Traceback' not in told


def test_two_processes(ended, place, teacher):
    found = kd_by_iteration(place / 'ranks')
    assert found[1] == 0.0 and found[2] > 0
    own = read_checkpoint(teacher)['state_dict']
    ranks = [torch.load(place / f'ranks.rank{rank}.pt') for rank in (0, 1)]
    for state in ranks:
        assert all(torch.equal(value, own[key]) for key, value in state['teacher'].items())
    assert all(torch.equal(value, ranks[1]['student'][key]) for key, value in ranks[0]['student'].items())
    load_weights(MODELS.build(load_config(place / 'iterations.py').model), place / 'ranks/iter_3.pth')
