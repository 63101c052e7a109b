"""When a training by epochs validates."""

from types import SimpleNamespace

import pytest

from projects.engine.errors import UserError
from projects.engine.loops import ResumableEpochLoop


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
