"""A scheduler's signal: finish the iteration, agree with the other ranks, save, leave."""

import logging
import signal
import threading
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS

from projects.engine.errors import Preempted
from projects.engine.loops import trains

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Answer SIGTERM and SIGUSR1 by a checkpoint and :class:`Preempted`, which tools turn into status 75.

    The iteration under way is finished first, and with gradient accumulation the optimizer's step. A validation under
    way is given up: the resumed run validates that iteration again. All ranks stop at the same iteration.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._asked: str | None = None
        self._agreed = False  # known to all ranks, at the same iteration
        self._asks_within_validation: bool | None = None
        self._before: dict[int, Any] = {}

    def before_run(self, runner: Any) -> None:
        """Take the signals: from now on there is something to record."""
        if not trains(runner):
            return  # a test has nothing to save: it ends at once
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._ask)

    def on_exit(self, runner: Any, status: str, reason: str | None) -> None:
        """Give the signals back; after a pre-emption more of them must not spoil the status."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if status == 'preempted' else handler)
        self._before = {}

    def _ask(self, number: int, frame: Any) -> None:
        self._asked = signal.Signals(number).name

    def after_iteration(self, runner: Any) -> None:
        """Stop between two iterations."""
        if self._stops(runner) and runner.iter < runner.max_iters:  # else there is nothing left to come back for
            self._leave(runner)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop within a validation, where all ranks have as many batches."""
        if not trains(runner):
            return
        if self._asks_within_validation is None:
            self._asks_within_validation = runner.agreement.same(len(runner.val_dataloader))
        if self._asks_within_validation and self._stops(runner):
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook._swap_ema_parameters()  # validation runs on the averaged weights
            self._leave(runner)

    def after_train(self, runner: Any) -> None:
        """Leave no message behind."""
        runner.agreement.finish()

    def _stops(self, runner: Any) -> bool:
        self._agreed |= runner.agreement.any(self._asked is not None)
        return self._agreed and runner.train_loop.at_a_step()

    def _leave(self, runner: Any) -> None:
        runner.agreement.finish()
        print_log(f'{self._asked or "a signal to another rank"}: saving and leaving', 'current', logging.WARNING)
        runner.save_now()
        raise Preempted(f'{self._asked or "signal"} at iteration {runner.iter} of {runner.max_iters}; everything is '
                        f'saved in {runner.work_dir}, --resume continues')
