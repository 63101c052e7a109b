"""What must not be trained on: losses and gradients that are no numbers, and samples that cannot be read."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS
from torch import nn

from projects.engine.batches import WatchedDataset, sample_names
from projects.engine.errors import UserError
from projects.engine.files import write_json


class SkipStep(Exception):
    """Leave out this optimizer step; the loop drops the gradients and goes on."""


@HOOKS.register_module()
class GuardHook(Hook):
    """Stop a training before a bad value reaches the weights, and say which samples it came from.

    - A gradient that is not finite stops the run before the optimizer's step, a loss that is not finite after its
      iteration at the latest. The batch is written to ``WORK_DIR/guard/``; checkpoints stay as they are.
    - A sample that cannot be read stops the run with its name, or is replaced while there are at most
      ``max_bad_samples`` such samples in this process.

    Args:
        max_skipped_steps: So many steps with non-finite gradients are left out instead (mixed precision can overflow
            now and then); each is counted and logged as ``skipped_steps``.
        max_bad_samples: So many different samples may be replaced; counted and logged as ``bad_samples``.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, max_skipped_steps: int = 0, max_bad_samples: int = 0) -> None:
        if min(max_skipped_steps, max_bad_samples) < 0:
            raise UserError('default_hooks.guard: expected max_skipped_steps and max_bad_samples of at least 0, found '
                            f'{max_skipped_steps} and {max_bad_samples}')
        self.max_skipped_steps, self.max_bad_samples = max_skipped_steps, max_bad_samples
        self.skipped = 0
        self.bad: set[str] = set()
        self._losses: dict[str, Any] = {}
        self._batch: Any = None  # of the iteration under way
        self._scale = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {'skipped': self.skipped, 'bad': sorted(self.bad)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the counts."""
        self.skipped, self.bad = int(state['skipped']), set(state['bad'])

    def before_train(self, runner: Any) -> None:
        """Watch the model's losses and the optimizer's steps."""
        dataset = runner.train_dataloader.dataset
        if isinstance(dataset, WatchedDataset):
            dataset.replaces_bad = self.max_bad_samples > 0
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self._scale = scaler.get_scale() if scaler is not None else 0.0
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.register_forward_hook(self._remember)
        runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: self._check_gradients(runner, model))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Count replaced samples."""
        self._losses, self._batch = {}, data_batch
        if not self.max_bad_samples:
            return  # the first one has stopped the run
        samples = data_batch.get('data_samples') or ()
        for text in (text for sample in samples for text in sample.get('bad_samples') or ()):
            name = text.split(':')[0]
            if name not in self.bad:
                self.bad.add(name)
                message = f'replaced a sample that cannot be read ({len(self.bad)} so far): {text}'
                print_log(message, 'current', logging.WARNING)
                runner.call_hook('on_alert', title='bad sample', text=message)
        if len(self.bad) > self.max_bad_samples:
            raise UserError(f'{len(self.bad)} samples cannot be read, max_bad_samples is {self.max_bad_samples}: '
                            f'{", ".join(sorted(self.bad))}')
        runner.message_hub.update_scalar('train/bad_samples', len(self.bad))

    def _remember(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, dict) and module.training:
            self._losses = output

    def _check_gradients(self, runner: Any, model: nn.Module) -> None:
        gradients = [p.grad for group in runner.optim_wrapper.optimizer.param_groups for p in group['params']
                     if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        if not runner.optim_wrapper.clip_grad_kwargs:  # MMEngine tells it where it clips
            runner.message_hub.update_scalar('train/grad_norm', norm)
        if math.isfinite(norm):
            return
        if self.skipped < self.max_skipped_steps:
            self._skipped_one(runner, f'gradient norm {norm}')
            runner.optim_wrapper._inner_count = runner.iter + 1
            raise SkipStep
        bad = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        found = [f'loss {name} is {value}' for name, value in self._terms().items() if not math.isfinite(value)]
        self._stop(runner, ', '.join(found) or f'the gradient of {bad[0] if bad else "the model"} is not finite',
                   {'gradient_norm': str(norm), 'parameters_with_non_finite_gradient': bad})

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Look at the losses: of a step that waits for more gradients, or whose bad loss had finite ones."""
        if outputs:
            values = torch.stack([torch.as_tensor(value, dtype=torch.float64).detach().mean()
                                  for value in outputs.values()])
            # With skips left, a bad loss of an accumulation is left to the step it poisons, on all ranks alike.
            left = self.skipped < self.max_skipped_steps and not runner.train_loop.at_a_step()
            if not values.isfinite().all() and not left:
                named = ', '.join(f'{name} is {float(value)}' for name, value in zip(outputs, values)
                                  if not math.isfinite(value))
                self._stop(runner, named, {})
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is not None:  # float16: the scaler leaves out steps by itself, and halves its scale then
            scale = scaler.get_scale()
            if scale < self._scale:
                self._skipped_one(runner, f'float16 overflow, loss scale now {scale:g}')
            if scale < 1.0:
                self._stop(runner, 'gradients overflow in float16 at any loss scale', {'loss_scale': scale})
            self._scale = scale
        if self.max_skipped_steps or scaler is not None:
            runner.message_hub.update_scalar('train/skipped_steps', self.skipped)
        self._losses, self._batch = {}, None

    def _skipped_one(self, runner: Any, why: str) -> None:
        self.skipped += 1
        print_log(f'iteration {runner.iter + 1}: step left out ({why}), {self.skipped} so far; samples: '
                  f'{", ".join(sample_names(self._batch))}', 'current', logging.WARNING)

    def _terms(self) -> dict[str, float]:
        return {name: float(torch.as_tensor(value).detach().float().mean()) if not isinstance(value, (list, tuple))
                else sum(float(item.detach().float().mean()) for item in value)
                for name, value in self._losses.items()}

    def _stop(self, runner: Any, problem: str, facts: dict[str, Any]) -> None:
        iteration = runner.iter + 1
        samples = sample_names(self._batch)
        path = Path(runner.work_dir) / 'guard' / f'iter_{iteration}_rank_{get_rank()}.json'
        write_json(path, {
            'iteration': iteration, 'epoch': runner.epoch, 'problem': problem, 'samples': samples,
            'losses': {name: str(value) for name, value in self._terms().items()},
            'learning_rates': dict(runner.optim_wrapper.get_lr()), **facts})
        text = (f'iteration {iteration}: {problem}; samples {", ".join(samples) or "unknown"} (more in {path}). '
                'Checkpoints before it are kept: try a smaller learning rate, or look at these samples')
        runner.call_hook('on_alert', title='not finite', text=text)
        raise UserError(text)
