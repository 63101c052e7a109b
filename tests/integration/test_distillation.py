"""A stage with a teacher through the tools: warm-up, resume, EMA, test, two processes."""

import shutil

import pytest
import torch
from mmseg.registry import MODELS

from projects.engine.checkpoints import read_checkpoint
from projects.engine.config import load_config
from projects.engine.files import sha256_of
from projects.engine.lineage_record import read_lineage
from projects.engine.scalars import read_scalars

pytestmark = pytest.mark.slow

WEIGHTS = 'weights=dict(hard_weight=[(0, 1.0), ({0}, 0.3)], kd_weight=[(0, 0.0), ({0}, 0.7)])'


@pytest.fixture(scope='module')
def teacher(config, tmp_path_factory):
    """A checkpoint of random weights that are sure of something."""
    cfg = load_config(config)
    torch.manual_seed(3)
    network = MODELS.build(cfg.model)
    network.init_weights()
    with torch.no_grad():
        network.decode_head.conv_seg.weight.mul_(300)
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    meta = {'dataset_meta': {'classes': ['Background', 'Forest Land', 'Grassland', 'Cropland', 'Settlement',
                                         'SemiNatural Grassland']}}
    torch.save({'meta': meta, 'state_dict': network.state_dict()}, path)
    return path


@pytest.fixture
def distil(tmp_path, config):
    """Write a child config with a teacher."""

    def write(teacher, start, bases=(), text='', **arguments):
        child = tmp_path / 'distil.py'
        options = dict(dict(type='DistilledSegmentor', teacher_checkpoint=str(teacher),
                            loss=dict(type='ConfidenceMaskedKDLoss', threshold=0.25)), **arguments)
        child.write_text(
            f'_base_ = {[*(bases or [str(config)])]!r}\n{text}\ndistil = {options!r}\n'
            f"loss_schedule = dict(type='StageWarmupHook', by_epoch='${{train_cfg.by_epoch}}', "
            f'{WEIGHTS.format(start)})\n')
        return child

    return write


def kd_by_iteration(work_dir):
    return {row.iteration: row.values.get('loss_kd') for row in read_scalars(work_dir) if row.kind == 'train'}


def copied(work_dir, to, checkpoint):
    """Return a directory that a kill left with one checkpoint."""
    to.mkdir()
    shutil.copy(work_dir / checkpoint, to)
    (to / 'last_checkpoint').write_text(checkpoint)
    return to


def test_iterations_with_ema_and_lookahead_through_resume_and_test(tool, config, repository, distil, teacher, tmp_path):
    child = distil(teacher, 3, [str(config), str(repository / 'configs/_base_/ema.py')])
    printed = tool('train.py', child, '--work-dir', tmp_path / 'whole', options=[])
    assert printed.count('loss weights from iteration 1 on: hard_weight 1, kd_weight 0') == 1
    assert printed.count('loss weights from iteration 4 on: hard_weight 0.3, kd_weight 0.7') == 1
    found = kd_by_iteration(tmp_path / 'whole')
    assert [found[number] for number in (1, 2, 3)] == [0.0] * 3 and found[4] > 0
    rows = {row.iteration: row.values for row in read_scalars(tmp_path / 'whole') if row.kind == 'train'}
    assert 0 < rows[4]['kd/kept_share'] <= 1 and 'kd/kept_share' not in rows[3]

    whole = read_checkpoint(tmp_path / 'whole/iter_4.pth')
    own = read_checkpoint(teacher)['state_dict']  # the same network
    assert list(whole['state_dict']) == list(own)
    assert set(whole['ema_state_dict']) == {'steps', *(f'module.{key}' for key in own)}
    assert not any(torch.equal(value, own[key]) for key, value in whole['state_dict'].items()
                   if value.dim() == 4)  # nothing of the teacher's
    assert {group['name'] for group in whole['optimizer']['param_groups']} == {
        'backbone', 'backbone without decay', 'rest', 'rest without decay'}

    record = read_lineage(tmp_path / 'whole')
    assert [(parent['role'], parent['file'], parent['sha256']) for parent in record['parents']] == [
        ('teacher', 'teacher.pth', sha256_of(teacher))]
    assert 'student' not in record['config']['text']  # the config as it was written

    again = copied(tmp_path / 'whole', tmp_path / 'again', 'iter_2.pth')
    tool('train.py', child, '--work-dir', again, '--resume', options=['num_workers=1'])
    resumed = kd_by_iteration(again)
    assert resumed[3] == 0.0 and resumed[4] > 0
    state = read_checkpoint(again / 'iter_4.pth')
    for key in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, state[key][name]) for name, value in whole[key].items())

    tool('test.py', child, tmp_path / 'whole/iter_4.pth', '--work-dir', tmp_path / 'test', options=[])


def test_epochs_with_kept_views_through_a_resume(tool, repository, distil, teacher, tmp_path):
    bases = [str(repository / 'configs' / name) for name in (
        '_base_/runtime.py', '_base_/tracking.py', '_base_/schedules/adamw_lookahead.py',
        '_base_/schedules/restarts_45_epochs.py', 'landcover/_base_/data_prepared.py',
        'landcover/_base_/model_ftunetformer_tiny.py')]
    child = distil(teacher, 2, bases, 'augmentation_views = 2', cache=str(tmp_path / 'cache'))
    options = ['train_cfg.val_interval=3', 'default_hooks.checkpoint.interval=1', 'param_scheduler.0.periods=[1,2]']
    run = tmp_path / 'run'
    tool('train.py', child, '--work-dir', run, options=[*options, 'train_cfg.max_epochs=1'], epochs=True)
    tool('train.py', child, '--work-dir', run, '--resume', options=[*options, 'train_cfg.max_epochs=3'], epochs=True)
    found = kd_by_iteration(run)  # three batches an epoch; the resume falls into the warm-up
    assert [found[number] for number in range(1, 7)] == [0.0] * 6 and min(found[number] for number in (7, 8, 9)) > 0
    kept = len(list((tmp_path / 'cache').rglob('*.npz')))
    assert kept == 6  # six images, one view of each in the one epoch with a teacher


def test_a_teacher_with_permuted_classes_is_refused(tool, distil, teacher, tmp_path):
    checkpoint = read_checkpoint(teacher)
    classes = checkpoint['meta']['dataset_meta']['classes']
    classes[1], classes[2] = classes[2], classes[1]
    torch.save(checkpoint, tmp_path / 'permuted.pth')
    told = tool('train.py', distil(tmp_path / 'permuted.pth', 1), '--work-dir', tmp_path / 'run', options=[],
                refused=True)
    assert 'the classes of the student in another order: expected Background, Forest Land, Grassland' in told
    assert 'found Background, Grassland, Forest Land' in told


def test_two_processes(tool, distil, teacher, tmp_path):
    (tmp_path / 'teacher_state.py').write_text("""
import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

@HOOKS.register_module()
class TeacherStateHook(Hook):
    priority = 'LOWEST'
    def __init__(self, out):
        self.out = out
    def after_train(self, runner):
        assert not runner.model.find_unused_parameters
        model = runner.model.module
        torch.save({'teacher': model.teacher.network.state_dict(), 'student': model.state_dict()},
                   f'{self.out}/rank{runner.rank}.pt')
""")
    child = distil(teacher, 1, text=f"""
custom_imports = dict(imports=['projects.engine.register', 'projects.multiscale.register',
                               'projects.multistage.register', 'projects.evaluation.register',
                               'projects.landcover.register', 'teacher_state'])
custom_hooks = [dict(type='TeacherStateHook', out={str(tmp_path)!r})]
find_unused_parameters = False
""")
    tool('dist_train.sh', child, 2, '--work-dir', tmp_path / 'run', PYTHONPATH=str(tmp_path), options=[
        'train_cfg.max_iters=3', 'train_cfg.val_interval=3'])
    found = kd_by_iteration(tmp_path / 'run')
    assert found[1] == 0.0 and found[2] > 0
    own = read_checkpoint(teacher)['state_dict']
    ranks = [torch.load(tmp_path / f'rank{rank}.pt') for rank in (0, 1)]
    for state in ranks:
        assert all(torch.equal(value, own[key]) for key, value in state['teacher'].items())
    assert all(torch.equal(value, ranks[1]['student'][key]) for key, value in ranks[0]['student'].items())
