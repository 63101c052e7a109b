"""Training loops that can stop and go on at any iteration, to the same bits."""

from collections.abc import Iterator
from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from projects.engine.batches import naming_dead_workers, seeded
from projects.engine.errors import UserError
from projects.engine.guards import SkipStep

LONGEST_HISTORY = 10_000  # the longest window that a log line can be a mean over


def trains(runner: Any) -> bool:
    """Say whether a runner trains; asking a testing one for ``iter`` or ``train_loop`` would build its loop."""
    return not (runner._train_loop is None or isinstance(runner._train_loop, dict))


class _ResumableLoop:
    """What both loops share.

    Beside MMEngine's hook points they call ``save_point(runner, epoch_ended)`` when an iteration is complete, with the
    counters advanced, and ``after_iteration(runner)`` when its validation is done too, if it has one.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self.dataloader = seeded(self.dataloader, runner.seed, runner.cfg.get('augmentation_views'))
        self.validated = -1  # the last iteration whose validation is done

    def at_a_step(self) -> bool:
        """Say whether no gradients are waiting for the rest of their accumulation."""
        wrapper = self.runner.optim_wrapper
        return wrapper.inner_count % wrapper._accumulative_counts == 0 or wrapper.inner_count == wrapper._max_counts

    def run(self) -> Any:
        """Train from where the counters stand to the end."""
        runner = self.runner
        runner.call_hook('before_train')
        self.dataloader.batch_sampler.seed = runner.seed  # a resumed run keeps the seed of its checkpoint
        self.dataloader.batch_sampler.number = self._iter
        runner.restore_random_state()
        self._decide_current_val_interval()
        with naming_dead_workers(self.dataloader):
            if self._iter and self.validated != self._iter and self._validation_is_due():
                self._validate()  # the run was stopped between the save and the end of the validation
            self._train()
        runner.call_hook('after_train')
        return runner.model

    def _train(self) -> None:
        raise NotImplementedError

    def _validation_is_due(self) -> bool:
        raise NotImplementedError

    def _step(self, batch_idx: int, data_batch: Any) -> None:
        """Run one iteration, without its validation."""
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=batch_idx, data_batch=data_batch)
        try:
            outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        except SkipStep:
            runner.optim_wrapper.zero_grad()
            outputs = None
        runner.call_hook('after_train_iter', batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _complete(self, epoch_ended: bool) -> None:
        """Save, validate and tell the hooks."""
        self.runner.call_hook('save_point', epoch_ended=epoch_ended)
        if self._validation_is_due():
            self._validate()
        self.runner.call_hook('after_iteration')
        if self._iter % 1000 == 1:  # MMEngine keeps a million values of each, copies them each time, and saves them
            for history in self.runner.message_hub.log_scalars.values():
                history.max_length = LONGEST_HISTORY

    def _validate(self) -> None:
        with naming_dead_workers(self.runner.val_dataloader):
            self.runner.val_loop.run()
        self.validated = self._iter
        self.runner.model.train()


class ResumableIterLoop(_ResumableLoop, IterBasedTrainLoop):
    """Train a number of iterations; arguments as MMEngine's ``IterBasedTrainLoop``."""

    def _validation_is_due(self) -> bool:
        return (self.runner.val_loop is not None and self._iter >= self.val_begin
                and (self._iter % self.val_interval == 0 or self._iter == self._max_iters))

    def _train(self) -> None:
        self.runner.call_hook('before_train_epoch')  # the whole training is one epoch
        self.runner.model.train()
        batches = self._batches()
        while self._iter < self._max_iters and not self.stop_training:
            self._step(self._iter, next(batches))
            self._decide_current_val_interval()
            self._complete(epoch_ended=self._iter == self._max_iters)
        self.runner.call_hook('after_train_epoch')

    def _batches(self) -> Iterator[Any]:
        while True:  # an endless sampler makes one pass, any other one as many as are needed
            taken = 0
            for batch in self.dataloader:
                taken += 1
                yield batch
            self.dataloader.batch_sampler.number += taken


class ResumableEpochLoop(_ResumableLoop, EpochBasedTrainLoop):
    """Train a number of epochs.

    Args:
        val_steps: Validate whenever so many iterations are done, and at the end, instead of after epochs; None: not.
        args, kwargs: As for MMEngine's ``EpochBasedTrainLoop``.
    """

    def __init__(self, *args: Any, val_steps: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if val_steps is not None and val_steps < 1:
            raise UserError(f'train_cfg.val_steps: expected 1 or more, found {val_steps}')
        self.val_steps = val_steps

    def _validation_is_due(self) -> bool:
        if self.val_steps is not None:
            return self.runner.val_loop is not None and (
                self._iter % self.val_steps == 0 or self._epoch == self._max_epochs)
        return (self.runner.val_loop is not None and self._iter % len(self.dataloader) == 0
                and self._epoch >= self.val_begin
                and (self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs))

    def _train(self) -> None:
        while self._epoch < self._max_epochs and not self.stop_training:
            self.runner.call_hook('before_train_epoch')
            self.runner.model.train()
            self.dataloader.batch_sampler.number = self._iter
            done = self._iter - self._epoch * len(self.dataloader)  # of this epoch, before a resume
            for idx, data_batch in enumerate(self.dataloader, start=done):
                self._step(idx, data_batch)
                epoch_ended = idx + 1 == len(self.dataloader)
                if epoch_ended:
                    self.runner.call_hook('after_train_epoch')
                    self._epoch += 1
                    self._decide_current_val_interval()
                self._complete(epoch_ended)
                if self.stop_training:
                    break
