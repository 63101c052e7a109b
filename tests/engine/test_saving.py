"""What is saved, what stays, and what --resume takes."""

import errno
import logging
import math
from pathlib import Path

import pytest
import torch

from projects.engine import checkpoints
from projects.engine.distributed import Agreement
from projects.engine.errors import UserError
from projects.engine.saving import AtomicCheckpointHook, checkpoints_of, newest_that_opens


def save(path):
    torch.save({'state_dict': {'weight': torch.ones(3)}, 'meta': {}}, path)


def test_by_number_not_by_name_or_pointer(tmp_path):
    for name in ('iter_900.pth', 'iter_1000.pth', 'best_mIoU_iter_2000.pth', 'other.pth'):
        save(tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text('/gone/iter_5000.pth')
    assert [path.name for path in checkpoints_of(tmp_path)] == ['iter_1000.pth', 'iter_900.pth']
    assert newest_that_opens(tmp_path).name == 'iter_1000.pth'


def test_a_truncated_newest_is_skipped_and_kept_aside_and_none_is_an_error(tmp_path):
    assert newest_that_opens(tmp_path) is None and newest_that_opens(tmp_path / 'nowhere') is None
    save(tmp_path / 'iter_1.pth')
    save(tmp_path / 'iter_2.pth')
    (tmp_path / 'iter_2.pth').write_bytes((tmp_path / 'iter_2.pth').read_bytes()[:99])
    assert newest_that_opens(tmp_path).name == 'iter_1.pth'
    assert {path.name for path in tmp_path.iterdir()} == {'iter_1.pth', 'iter_2.pth.damaged'}
    (tmp_path / 'iter_1.pth').write_bytes(b'')
    with pytest.raises(UserError, match='none of its 1 checkpoints can be read'):
        newest_that_opens(tmp_path)
    assert (tmp_path / 'iter_1.pth').exists()


class Run:
    """As much of a runner as the checkpoint hook sees."""

    max_iters, epoch, _train_loop = 100, 0, None

    def __init__(self, work_dir):
        self.work_dir, self.iter = work_dir, 0
        self.train_loop = self._train_loop = type('Loop', (), {'stop_training': False, 'steps': 1})()
        self.train_loop.at_a_step = lambda: self.iter % self.train_loop.steps == 0
        self.logger = logging.getLogger('run')
        self.told = []
        self.agreement = Agreement()

    def save_checkpoint(self, folder, name, **_):
        torch.save({'state_dict': {'weight': torch.ones(1)}, 'meta': {'iter': self.iter}}, folder / name)

    def call_hook(self, name, **values):
        self.told.append((name, values))

    def names(self):
        return {path.name for path in self.work_dir.glob('*.pth')}


def test_the_newest_stay_and_the_pointer_is_relative(tmp_path):
    run, hook = Run(tmp_path), AtomicCheckpointHook(interval=2, max_keep_ckpts=2)
    for run.iter in range(1, 8):
        hook.save_point(run, epoch_ended=False)
    assert run.names() == {'iter_4.pth', 'iter_6.pth'}
    assert (tmp_path / 'last_checkpoint').read_text() == 'iter_6.pth'
    hook.after_train(run)
    assert run.names() == {'iter_6.pth', 'iter_7.pth'}
    assert [values['step'] for name, values in run.told if name == 'after_checkpoint'] == [2, 4, 6, 7]


def test_a_save_waits_for_the_accumulated_step(tmp_path):
    run, hook = Run(tmp_path), AtomicCheckpointHook(interval=4, max_keep_ckpts=-1)
    run.train_loop.steps = 3
    for run.iter in range(1, 13):
        hook.save_point(run, epoch_ended=False)
    assert run.names() == {'iter_6.pth', 'iter_9.pth', 'iter_12.pth'}


def test_epochs_are_counted_and_iterations_are_named(tmp_path):
    run, hook = Run(tmp_path), AtomicCheckpointHook(interval=2, by_epoch=True, max_keep_ckpts=-1)
    for run.iter in range(1, 13):
        run.epoch = run.iter // 3
        hook.save_point(run, epoch_ended=run.iter % 3 == 0)
    assert run.names() == {'iter_6.pth', 'iter_12.pth'}


def test_the_best_by_any_metric(tmp_path):
    run, hook = Run(tmp_path), AtomicCheckpointHook(save_best=['mIoU', 'a/loss'], rule=['greater', 'less'], keep_best=2)
    for run.iter, (score, loss) in enumerate([(0.3, 5.0), (0.5, 9.0), (math.nan, 4.0), (0.3, 9.0), (0.4, 4.5)], 1):
        hook.after_val_epoch(run, {'mIoU': score, 'a/loss': loss})
    assert run.names() == {'best_mIoU_iter_2.pth', 'best_mIoU_iter_5.pth', 'best_a_loss_iter_3.pth',
                           'best_a_loss_iter_5.pth'}
    told = [(values['path'].name, *values['aliases']) for name, values in run.told if name == 'after_checkpoint']
    assert ('best_mIoU_iter_2.pth', 'best') in told and ('best_mIoU_iter_5.pth', 'best-2') in told
    other = AtomicCheckpointHook(save_best='mIoU')
    other.load_state_dict(hook.state_dict())
    assert other.best == {'mIoU': [(0.5, 'best_mIoU_iter_2.pth'), (0.4, 'best_mIoU_iter_5.pth')]}
    with pytest.raises(UserError, match="save_best: the validation has no 'mIoU', it has OA"):
        hook.after_val_epoch(run, {'OA': 1.0})


@pytest.mark.parametrize('values', [dict(rule='bigger', save_best='a'), dict(rule=['less'], save_best=['a', 'b']),
                                    dict(max_keep_ckpts=0), dict(keep_best=0)])
def test_bad_settings(values):
    with pytest.raises(UserError, match='default_hooks.checkpoint'):
        AtomicCheckpointHook(**values)


def test_a_file_that_cannot_be_read_now_is_skipped_and_stays(tmp_path, monkeypatch):
    for number in (1, 2):
        save(tmp_path / f'iter_{number}.pth')

    def fails(path):
        if Path(path).name == 'iter_2.pth':
            raise OSError(errno.EIO, 'Input/output error')
        return False

    monkeypatch.setattr(checkpoints, 'verify_checkpoint', fails)
    assert newest_that_opens(tmp_path).name == 'iter_1.pth'
    assert {path.name for path in tmp_path.iterdir()} == {'iter_1.pth', 'iter_2.pth'}


def test_best_files_of_a_history_that_did_not_go_on_are_removed(tmp_path):
    run, hook = Run(tmp_path), AtomicCheckpointHook(save_best='mIoU', keep_best=2)
    for number in (4, 8, 12):
        save(tmp_path / f'best_mIoU_iter_{number}.pth')
    hook.load_state_dict({'best': {'mIoU': [[0.5, 'best_mIoU_iter_8.pth'], [0.4, 'best_mIoU_iter_6.pth']]}})
    run.iter = 8
    hook.before_train(run)
    assert run.names() == {'best_mIoU_iter_4.pth', 'best_mIoU_iter_8.pth'}
    assert hook.best['mIoU'] == [(0.5, 'best_mIoU_iter_8.pth')]


def test_a_repeated_validation_tells_of_its_file_and_leaves_it(tmp_path):
    run, hook = Run(tmp_path), AtomicCheckpointHook(save_best='mIoU')
    run.iter = 4
    hook.after_val_epoch(run, {'mIoU': 0.5})
    before = (tmp_path / 'best_mIoU_iter_4.pth').stat().st_mtime_ns
    killed_before_anyone_knew = AtomicCheckpointHook(save_best='mIoU')
    run.told = []
    killed_before_anyone_knew.after_val_epoch(run, {'mIoU': 0.5})
    assert (tmp_path / 'best_mIoU_iter_4.pth').stat().st_mtime_ns == before
    assert [values['aliases'] for name, values in run.told if name == 'after_checkpoint'] == [('best',)]
