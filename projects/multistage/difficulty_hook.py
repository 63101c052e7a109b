"""Sampling weights that follow the network while it trains."""

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS

from projects.engine.distributed import own_statistics, set_own_statistics, synchronise_buffers
from projects.engine.errors import UserError
from projects.multistage.difficulty import Difficulty
from projects.multistage.difficulty_rules import build_rule
from projects.multistage.hard_sampler import HardSampleSampler
from projects.multistage.scoring import score_images, whole_images


@HOOKS.register_module()
class DifficultyHook(Hook):
    """Score every training image now and then, and give the sampler new weights.

    The images are scored whole and without augmentation (the config's ``test_pipeline`` on its training split) by
    the current weights of the network, in eval mode and float32, dealt out to the ranks; several ranks first average
    their running statistics, as for a validation, and take their own back afterwards. Nothing else of the training
    changes: a run whose rule gives all images one weight has the bits of a run without this hook.

    **When it takes effect.** Loader workers read ahead, so a change in the middle of a pass over the data would
    depend on their number. New weights therefore hold from the next pass that begins: those of iteration i, in
    passes of L iterations, from pass ceil(i / L) on. An epoch-based training scores at the end of an epoch and its next
    epoch is drawn with the result. The scoring of an iteration belongs to it: a checkpoint of that iteration holds its
    result, in the state of this hook, and a resumed run goes on to the same bits.

    Config: ``difficulty = dict(type='DifficultyHook', interval=5)`` beside
    ``train_sampler = dict(type='HardSampleSampler', length=N)``.

    Args:
        interval: Epochs (passes over the sampler) or iterations from one scoring to the next.
        by_epoch: Whether ``interval`` and ``begin`` count passes (default) or iterations.
        begin: Passes or iterations before the first scoring; 0 scores the initial network before the training begins.
            Default: ``interval``. Until then the weights are those of the sampler's file, or all 1.
        rule: Config of a rule. Default: the sampler's.
        num_workers: Processes that read the images. Default: 0, this one.

    Raises:
        UserError: The sampler is another one, or has no fixed length.
    """

    priority = 'VERY_LOW'  # after the last change of this iteration to the weights; what saves comes later

    def __init__(self, interval: int, by_epoch: bool = True, begin: int | None = None,
                 rule: Mapping[str, Any] | None = None, num_workers: int = 0) -> None:
        begin = interval if begin is None else begin
        for key, value, least in (('interval', interval, 1), ('begin', begin, 0), ('num_workers', num_workers, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f'difficulty.{key}: expected a whole number of at least {least}, found {value!r}')
        self.interval, self.begin, self.by_epoch, self.num_workers = interval, begin, by_epoch, num_workers
        self.rule = None if rule is None else build_rule(rule)
        self.changes: list[tuple[int, dict[str, float]]] = []  # (iterations done, weights), ascending
        self._dataset: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Return the weights in force and those of the next pass, by sample id."""
        return {'changes': [{'iteration': iteration, 'ids': list(weights), 'weights': torch.tensor(
            list(weights.values()), dtype=torch.float64)} for iteration, weights in self.changes]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the weights."""
        self.changes = [(int(change['iteration']), dict(zip(change['ids'], change['weights'].tolist(), strict=True)))
                        for change in state['changes']]

    def before_train(self, runner: Any) -> None:
        """Check the sampler, give it what a resumed checkpoint held, or score the initial network."""
        sampler = self._sampler(runner)
        if not sampler.fixed:
            raise UserError("train_dataloader.sampler.length: expected a number of draws, found 'weights': the weights "
                            'that the difficulty hook changes would change the length of an epoch')
        self._dataset = whole_images(runner.cfg)
        if self.changes:
            self._apply(runner)
        elif self.begin == 0 and runner.iter == 0:
            self._refresh(runner, 0)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Score when it is due."""
        done = runner.iter + 1
        unit = self._length(runner) if self.by_epoch else 1
        if done % unit == 0 and done // unit >= self.begin and (done // unit - self.begin) % self.interval == 0:
            self._refresh(runner, done)

    def _refresh(self, runner: Any, iteration: int) -> None:
        difficulty = self._score(runner)
        weights = (self.rule or self._sampler(runner).rule)(difficulty)
        same_pass = self._first_pass(runner, iteration)
        self.changes = [change for change in self.changes if self._first_pass(runner, change[0]) != same_pass][-1:]
        self.changes.append((iteration, weights))
        self._apply(runner)
        self._tell(runner, iteration, difficulty, weights)

    def _score(self, runner: Any) -> Difficulty:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own = own_statistics([model])
        synchronise_buffers(model)
        try:
            part = list(score_images(model, self._dataset, range(runner.rank, len(self._dataset), runner.world_size),
                                     self.num_workers))
        finally:
            set_own_statistics([model], own)
        found = dict(pair for some in all_gather_object(part) for pair in some)
        return Difficulty(tuple(self._dataset.metainfo['classes']), found)

    def _apply(self, runner: Any) -> None:
        self._sampler(runner).schedule([(self._first_pass(runner, iteration), weights)
                                        for iteration, weights in self.changes])

    def _first_pass(self, runner: Any, iteration: int) -> int:
        return -(-iteration // self._length(runner))

    @staticmethod
    def _length(runner: Any) -> int:
        return len(runner.train_loop.dataloader)

    @staticmethod
    def _sampler(runner: Any) -> HardSampleSampler:
        sampler = runner.train_loop.dataloader.batch_sampler.sampler
        if not isinstance(sampler, HardSampleSampler):
            raise UserError(f'train_dataloader.sampler: expected HardSampleSampler, whose weights the difficulty hook '
                            f'sets, found {type(sampler).__name__}')
        return sampler

    def _tell(self, runner: Any, iteration: int, difficulty: Difficulty, weights: dict[str, float]) -> None:
        known = [sample.mean_iou for sample in difficulty.samples.values() if sample.mean_iou is not None]
        told = 'no image has a label'
        if known:
            told = f'mIoU of an image {min(known):.3f} to {max(known):.3f}, median {statistics.median(known):.3f}'
            runner.message_hub.update_scalar('train/image_mIoU', statistics.fmean(known))
        runner.message_hub.update_scalar('train/sample_weight', statistics.fmean(weights.values()))
        counts = sorted(Counter(round(weight, 2) for weight in weights.values()).items())
        parts = [f'{weight:g} x {number}' for weight, number in counts]
        if len(parts) > 8:  # a rule without steps
            values = sorted(weights.values())
            parts = [f'{values[0]:.2f} to {values[-1]:.2f}, median {statistics.median(values):.2f}']
        runner.logger.info(f'difficulty of {len(weights)} images after iteration {iteration}: {told}; weights from '
                           f'pass {self._first_pass(runner, iteration)} on: {", ".join(parts)}')
