"""When a training by epochs validates; killed between two validations it goes on to the same bits."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from projects.engine.checkpoints import read_checkpoint
from projects.engine.errors import UserError
from projects.engine.loops import ResumableEpochLoop
from projects.engine.runner import TerraceRunner
from projects.engine.saving import AtomicCheckpointHook, newest_that_opens


def due(val_steps, iteration, epochs=3, length=7, val_interval=1):
    """Whether a validation follows an iteration (counted from 1) of so many epochs of ``length`` batches."""
    loop = ResumableEpochLoop.__new__(ResumableEpochLoop)
    loop._runner = SimpleNamespace(val_loop=object())
    loop.dataloader = range(length)
    loop._iter, loop._epoch, loop._max_epochs = iteration, iteration // length, epochs
    loop.val_begin, loop.val_interval, loop.val_steps = 1, val_interval, val_steps
    return loop._validation_is_due()


def test_by_steps_it_follows_every_so_many_iterations_and_the_end():
    assert [number for number in range(1, 22) if due(5, number)] == [5, 10, 15, 20, 21]


def test_without_steps_it_follows_epochs():
    assert [number for number in range(1, 22) if due(None, number)] == [7, 14, 21]
    assert [number for number in range(1, 22) if due(None, number, val_interval=2)] == [14, 21]


def test_steps_below_one_are_refused(monkeypatch):
    monkeypatch.setattr('projects.engine.loops._ResumableLoop.__init__', lambda self, *args, **kwargs: None)
    with pytest.raises(UserError, match='train_cfg.val_steps: expected 1 or more, found 0'):
        ResumableEpochLoop(None, None, val_steps=0)


class Points(Dataset):
    """Fourteen points and the sums of their coordinates, shaken anew at each reading."""

    def __len__(self):
        return 14

    def __getitem__(self, index):
        point = torch.tensor([index / 14, 1 - index / 7, (index % 3) / 3]) + 0.1 * float(np.random.normal())
        return {'inputs': point, 'truth': point.sum()}


class Network(BaseModel):
    """With running statistics and dropout: what depends on more than the weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, inputs, truth, mode='tensor'):
        error = (self.layers(inputs)[:, 0] - truth).square()
        return {'loss': error.mean()} if mode == 'loss' else [{'error': one} for one in error]


class Closeness(BaseMetric):
    """The negative mean error, the higher the better."""

    def process(self, data_batch, data_samples):
        self.results += [float(sample['error']) for sample in data_samples]

    def compute_metrics(self, results):
        return {'closeness': -float(np.mean(results))}


class Killed(BaseException):
    """The end of a process, as its runner sees it: nothing more is called."""


class Life(Hook):
    """Note what a life of the training does, and end it at ``end``: a hook point and an iteration, counted from 1.

    The last of all hooks: what the others do at that point is done.
    """

    priority = 'LOWEST'

    def __init__(self, end=None):
        self.end, self.trained, self.scores = end, [], {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.trained.append(runner.iter + 1)

    def after_iteration(self, runner):
        self.reached('after_iteration', runner)

    def before_val(self, runner):
        self.reached('before_val', runner)

    def after_val_epoch(self, runner, metrics=None):
        self.scores[runner.iter] = metrics['closeness']

    def reached(self, point, runner):
        if self.end == (point, runner.iter):
            raise Killed


@pytest.fixture
def live(tmp_path, monkeypatch):
    """Return what trains two epochs of seven iterations with a validation every three, as a new process would."""
    monkeypatch.setattr(TerraceRunner, '_log_env', lambda self, env_cfg: None)  # asks the compilers for their versions

    started = []

    def call(name, saves, end=None):
        work_dir, life = tmp_path / name, Life(end)
        start = newest_that_opens(work_dir)
        started.append(name)
        torch.manual_seed(0 if start is None else 1)  # the weights of a resumed run come from its file
        points = dict(batch_size=2, num_workers=0, dataset=Points(), collate_fn=dict(type='default_collate'))
        runner = TerraceRunner(
            model=Network(), work_dir=str(work_dir), cfg=Config(), randomness=dict(seed=3), log_level='WARNING',
            experiment_name=f'{tmp_path.name}_{len(started)}', default_scope='mmseg',
            train_dataloader=dict(points, sampler=dict(type='DefaultSampler', shuffle=True)),
            val_dataloader=dict(points, sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=dict(by_epoch=True, max_epochs=2, val_steps=3), val_cfg=dict(), val_evaluator=[Closeness()],
            optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02, amsgrad=True)),
            param_scheduler=[dict(type='StepLR', by_epoch=True, step_size=1, gamma=0.5)],
            default_hooks=dict(logger=None, checkpoint=AtomicCheckpointHook(
                **saves, max_keep_ckpts=-1, save_best='closeness', keep_best=2)),
            custom_hooks=[life], load_from=start and str(start), resume=start is not None)
        if end is None:
            runner.train()
        else:
            with pytest.raises(Killed):
                runner.train()
        return life

    return call


def leaves(value, place=''):
    """Return the leaves of nested dicts and lists by their places, tensors as bytes."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {below: leaf for key, item in items for below, leaf in leaves(item, f'{place}.{key}').items()}
    return {place: value.numpy().tobytes() if isinstance(value, torch.Tensor) else value}


def state_of(path):
    """What a checkpoint holds, without the clock and the log."""
    return leaves({key: value for key, value in read_checkpoint(path).items() if key not in ('meta', 'message_hub')})


@pytest.mark.parametrize('saves, end, goes_on_at', [
    (dict(interval=4), ('after_iteration', 5), 4),  # in the first epoch, between the validations at 3 and 6
    (dict(interval=4), ('after_iteration', 10), 8),  # in the second; the validation at 9 comes again
    (dict(interval=4), ('before_val', 12), 12),  # saved; its validation is still to come
    (dict(interval=1, by_epoch=True), ('after_iteration', 11), 7),  # as the recipe saves: at the end of an epoch
    (dict(interval=1, by_epoch=True), ('after_iteration', 5), 0)])
def test_killed_within_an_epoch_it_goes_on_to_the_same_bits(live, tmp_path, saves, end, goes_on_at):
    whole = live('whole', saves)
    assert whole.trained == list(range(1, 15)) and list(whole.scores) == [3, 6, 9, 12, 14]
    assert len(set(whole.scores.values())) == 5
    killed = live('killed', saves, end)
    assert killed.trained == list(range(1, end[1] + 1))
    assert not (tmp_path / 'killed/iter_14.pth').exists()
    resumed = live('killed', saves)
    assert resumed.trained == list(range(goes_on_at + 1, 15))
    missed = goes_on_at not in killed.scores
    assert list(resumed.scores) == [number for number in whole.scores
                                    if number > goes_on_at or (number == goes_on_at and missed)]
    for life in (killed, resumed):
        assert life.scores.items() <= whole.scores.items()  # to the bit
    assert {**killed.scores, **resumed.scores} == whole.scores
    names = {path.name for path in (tmp_path / 'whole').glob('*.pth')}
    assert {path.name for path in (tmp_path / 'killed').glob('*.pth')} == names
    assert sum(name.startswith('best_closeness') for name in names) == 2 and 'iter_14.pth' in names
    for name in names:
        assert state_of(tmp_path / 'killed' / name) == state_of(tmp_path / 'whole' / name), name
