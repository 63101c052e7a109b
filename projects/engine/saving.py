"""When checkpoints are written, which ones stay, and which one a resume takes."""

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS

from projects.engine.checkpoints import read_checkpoint
from projects.engine.errors import UserError
from projects.engine.failpoints import fail_point
from projects.engine.files import write_text
from projects.engine.loops import trains

NAME = re.compile(r'iter_\d+\.pth')
POINTER = 'last_checkpoint'


def iteration_of(path: Path) -> int:
    """Return the iteration in the name of a periodic or a best checkpoint."""
    return int(path.stem.rpartition('_')[2])


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """Return the checkpoints that a run can resume from, newest (by iteration) first."""
    found = (path for path in Path(work_dir).glob('*.pth') if NAME.fullmatch(path.name))
    return sorted(found, key=iteration_of, reverse=True)


def newest_that_opens(work_dir: str | Path) -> Path | None:
    """Return the newest checkpoint of a run that opens and verifies; say which ones were skipped and why.

    Names decide, not the pointer: it may be empty, or lag behind by one kill. A damaged file is kept aside as
    ``<name>.damaged``, so that it is not taken for the newest again.

    Raises:
        UserError: There are checkpoints and none can be read: starting anew would overwrite the run.
    """
    damaged: list[Path] = []
    skipped = 0
    for path in checkpoints_of(work_dir):
        try:
            read_checkpoint(path)
        except UserError as error:
            print_log(f'skipped while resuming: {error}', logger='current', level=logging.WARNING)
            skipped += 1
            if not isinstance(error.__cause__, OSError):  # a disk that fails to read now may read it tomorrow
                damaged.append(path)
            continue
        for other in damaged:
            other.rename(other.with_name(f'{other.name}.damaged'))
        return path
    if skipped:
        raise UserError(f'{work_dir}: none of its {skipped} checkpoints can be read; choose another --work-dir')
    return None


@HOOKS.register_module()
class AtomicCheckpointHook(Hook):
    """Keep the last checkpoints and the best ones of a run, as ``iter_<n>.pth`` and ``best_<metric>_iter_<n>.pth``.

    An older file is deleted only when a newer one is in place, whole and flushed. Names count iterations in
    epoch-based runs too: a run stopped within an epoch has no other clock. While gradients accumulate, a save waits
    for the optimizer's step, since there are no gradients in a checkpoint. Scores are compared after the validation
    of an iteration, which follows the save.

    Args:
        interval: Iterations (epochs with ``by_epoch``) between two saves; -1 saves at the end only.
        by_epoch: Count epochs.
        max_keep_ckpts: How many of the periodic checkpoints stay; -1 keeps all.
        save_best: Metric or metrics by which the best are kept, as the validation names them; None keeps none.
        rule: ``'greater'`` or ``'less'``: which score is better; one for all metrics or one each.
        keep_best: How many of the best stay, for each metric.
        save_last: Save at the end whatever the interval says.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = -1, by_epoch: bool = False, max_keep_ckpts: int = 2,
                 save_best: str | Sequence[str] | None = None, rule: str | Sequence[str] = 'greater',
                 keep_best: int = 1, save_last: bool = True) -> None:
        metrics = [save_best] if isinstance(save_best, str) else list(save_best or ())
        rules = [rule] * len(metrics) if isinstance(rule, str) else list(rule)
        if len(rules) != len(metrics) or not set(rules) <= {'greater', 'less'}:
            raise UserError(f"default_hooks.checkpoint.rule: expected 'greater' or 'less', one or one for each of "
                            f'{metrics}, found {rule!r}')
        if max_keep_ckpts == 0 or interval == 0 or keep_best < 1:
            raise UserError('default_hooks.checkpoint: expected interval and max_keep_ckpts of -1 or at least 1 and '
                            f'keep_best of at least 1, found {interval}, {max_keep_ckpts} and {keep_best}')
        if len({metric.replace('/', '_') for metric in metrics}) < len(metrics):
            raise UserError(f'default_hooks.checkpoint.save_best: two of {metrics} have one file name')
        self.interval, self.by_epoch, self.max_keep_ckpts = interval, by_epoch, max_keep_ckpts
        self.rules, self.keep_best, self.save_last = dict(zip(metrics, rules)), keep_best, save_last
        self.best: dict[str, list[tuple[float, str]]] = {metric: [] for metric in metrics}  # best first
        self._waits = False  # a save that is due waits for the optimizer's step
        self._saved = -1  # the iteration of the last save
        self._begun = 0  # the iteration that this start of the run began with

    def state_dict(self) -> dict[str, Any]:
        """Return the best scores and their files: what a resume needs."""
        return {'best': {metric: list(map(list, found)) for metric, found in self.best.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the scores of the metrics that are still watched."""
        for metric in self.best:
            self.best[metric] = [(float(score), str(name)) for score, name in state['best'].get(metric, ())]

    def before_train(self, runner: Any) -> None:
        """Say where they go; what a resume began with is saved already.

        Best files of later iterations are a history that did not go on (the run was killed after them): the run will
        come by there again. Scores whose files are in another directory do not count here.
        """
        work_dir = Path(runner.work_dir)
        self._begun = runner.iter
        if runner.iter and (work_dir / f'iter_{runner.iter}.pth').is_file():
            self._saved = runner.iter
        for metric, best in self.best.items():
            best[:] = [entry for entry in best if (work_dir / entry[1]).is_file()]
            kept = {entry[1] for entry in best}
            for path in work_dir.glob(f'best_{metric.replace("/", "_")}_iter_*.pth'):
                if is_main_process() and path.name not in kept and iteration_of(path) > runner.iter:
                    path.unlink()
        runner.logger.info(f'Checkpoints will be saved to {runner.work_dir}.')

    def save_point(self, runner: Any, epoch_ended: bool) -> None:
        """Save when it is due; called when an iteration is complete and before its validation."""
        loop = runner.train_loop
        ended = runner.iter >= runner.max_iters
        if self.by_epoch:
            due = epoch_ended and self.interval > 0 and runner.epoch % self.interval == 0
        else:
            due = self.interval > 0 and runner.iter % self.interval == 0
        self._waits |= due or (self.save_last and (ended or loop.stop_training))
        if self._waits and (ended or loop.at_a_step()):
            self.save(runner)

    def after_train(self, runner: Any) -> None:
        """Save the end of a training that stopped early, with what its last validation decided."""
        stopped = runner.train_loop.stop_training and runner.iter > self._begun
        if self.save_last and (stopped or self._saved != runner.iter):
            self._saved = -1
            self.save(runner)

    def save(self, runner: Any) -> None:
        """Save now, unless this iteration is saved already. Collective."""
        self._waits = False
        if self._saved == runner.iter:
            return
        path = Path(runner.work_dir) / f'iter_{runner.iter}.pth'
        runner.logger.info(f'Saving {path.name} (epoch {runner.epoch})')
        self._write(runner, path, ('last',), None, training_state=True)
        self._saved = runner.iter
        if not is_main_process():
            return
        write_text(path.parent / POINTER, path.name)
        fail_point('before_delete', path)
        if self.max_keep_ckpts > 0:
            for old in checkpoints_of(path.parent)[self.max_keep_ckpts:]:
                old.unlink(missing_ok=True)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Keep the weights of this validation when they are among the best."""
        if not trains(runner):
            return  # tools/test.py: nothing is trained
        for metric, best in self.best.items():
            if metric not in (metrics or {}):
                raise UserError(f'default_hooks.checkpoint.save_best: the validation has no {metric!r}, it has '
                                f'{", ".join(sorted(metrics or {})) or "nothing"}')
            score = float(metrics[metric])
            sign = 1.0 if self.rules[metric] == 'greater' else -1.0
            name = f'best_{metric.replace("/", "_")}_iter_{runner.iter}.pth'
            best[:] = [entry for entry in best if entry[1] != name]  # a validation that a resume repeats
            if math.isnan(score) or (len(best) >= self.keep_best and sign * score <= sign * best[-1][0]):
                continue
            best.append((score, name))
            best.sort(key=lambda entry: -sign * entry[0])  # stable: of equals the first one leads
            place = [entry[1] for entry in best].index(name)
            alias = 'best' if place == 0 else f'best-{place + 1}'
            self._write(runner, Path(runner.work_dir) / name, (alias,), metrics, training_state=False)
            runner.logger.info(f'{name}: {metric} {score:.4f}')
            for _, old in best[self.keep_best:]:
                if is_main_process():
                    (Path(runner.work_dir) / old).unlink(missing_ok=True)
            del best[self.keep_best:]

    @staticmethod
    def _write(runner: Any, path: Path, aliases: tuple[str, ...], metrics: dict | None, training_state: bool) -> None:
        repeated = not training_state and runner.agreement.broadcast(path.is_file())
        try:
            if not repeated:  # a validation that a resume repeats finds its file; the hooks may not know of it yet
                runner.save_checkpoint(
                    path.parent, path.name, save_optimizer=training_state, save_param_scheduler=training_state,
                    meta=dict(epoch=runner.epoch, iter=runner.iter))
        except UserError as error:
            runner.call_hook('on_alert', title='checkpoint not written', text=str(error))
            raise
        if is_main_process():
            runner.call_hook('after_checkpoint', path=path, aliases=aliases, step=runner.iter, metrics=metrics)
