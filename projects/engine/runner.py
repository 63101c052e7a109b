"""The runner that every task uses: MMEngine's, with the defaults that lose runs or silently do less taken out."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import BaseTTAModel, is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import RUNNERS
from torch import nn
from torch.utils.data import DataLoader

from projects.engine.batches import watched
from projects.engine.checkpoint_files import write_checkpoint
from projects.engine.checkpoints import read_weights
from projects.engine.consistency import check_consistency, config_metainfo
from projects.engine.distributed import (
    Agreement,
    own_statistics,
    set_own_statistics,
    start_processes,
    synchronise_buffers,
)
from projects.engine.errors import UserError
from projects.engine.lineage_record import HOOK_KEYS
from projects.engine.loops import ResumableEpochLoop, ResumableIterLoop
from projects.engine.precision import apply_precision
from projects.engine.random_state import random_state, set_random_state
from projects.engine.saving import AtomicCheckpointHook, checkpoints_of, iteration_of
from projects.engine.startup import device


@RUNNERS.register_module()
class TerraceRunner(Runner):
    """MMEngine's ``Runner``, strict.

    - Weights are loaded all or not at all, and only when the class order agrees.
    - Without CUDA, SyncBN becomes BN also under several processes.
    - Running statistics are equal on all ranks before a validation, in a checkpoint and at the end.
    - A checkpoint holds all that the next iteration depends on, of every rank; saving changes nothing in the run.
    """

    _resumed: dict[str, Any] | None = None  # what a checkpoint holds beside MMEngine's part, until training starts

    @cached_property
    def agreement(self) -> Agreement:
        """What the ranks decide together. Collective at the first use."""
        return Agreement()

    @cached_property
    def _config_text(self) -> str:
        return self.cfg.pretty_text  # a second each time: MMEngine formats it

    def get_hooks_info(self) -> str:
        """Return the hooks in their order on one line; MMEngine's table fills a screen."""
        return ', '.join(type(hook).__name__ for hook in self.hooks)

    def _log_env(self, env_cfg: dict) -> None:
        with self._into_the_file_only():
            super()._log_env(env_cfg)

    def _init_model_weights(self) -> None:
        with self._into_the_file_only():
            super()._init_model_weights()

    @contextmanager
    def _into_the_file_only(self) -> Iterator[None]:
        """Keep what fills screens (environment, whole config, each parameter's initialiser) off the terminal."""
        handlers = [h for h in self.logger.handlers if not isinstance(h, logging.FileHandler)]
        levels = [handler.level for handler in handlers]
        for handler in handlers:
            handler.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for handler, level in zip(handlers, levels):
                handler.setLevel(level)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        model = super().build_model(model)
        if not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        if self.cfg.get('channels_last', False):
            model = model.to(memory_format=torch.channels_last)
        return model

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, seed: int | None = None,
                         diff_rank_seed: bool = False) -> DataLoader:
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = dict(dataloader, persistent_workers=False)  # torch refuses it without workers
        if isinstance(dataloader, DataLoader):
            return dataloader
        try:
            return watched(Runner.build_dataloader(dataloader, seed, diff_rank_seed))
        except ValueError as error:
            raise UserError(f'dataloader: {error}') from error

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        if isinstance(loop, dict):
            by_epoch = {'EpochBasedTrainLoop': True, 'IterBasedTrainLoop': False}.get(
                loop.get('type'), loop.get('by_epoch', True))
            if loop.get('type', 'EpochBasedTrainLoop') not in ('EpochBasedTrainLoop', 'IterBasedTrainLoop'):
                raise UserError(f'train_cfg.type: expected none, found {loop["type"]}: only the loops of by_epoch=True '
                                'and by_epoch=False save and resume')
            arguments = {key: value for key, value in loop.items() if key not in ('type', 'by_epoch')}
            if not by_epoch and 'val_steps' in arguments:
                raise UserError('train_cfg.val_steps: expected a training by epochs, found by_epoch=False: set '
                                'val_interval')
            resumable = ResumableEpochLoop if by_epoch else ResumableIterLoop
            loop = resumable(**arguments, runner=self, dataloader=self._train_dataloader)
        if not loop.dataloader.batch_sampler.endless and not len(loop.dataloader):
            raise UserError(f'train_dataloader: an epoch has no batch: {len(loop.dataloader.dataset)} images over '
                            f'{self.world_size} processes make no batch of '
                            f'{self.cfg.train_dataloader.get("batch_size", 1)}')
        return loop

    def build_param_scheduler(self, scheduler: Any) -> Any:
        try:
            return super().build_param_scheduler(scheduler)
        except ValueError as error:
            raise UserError(f'param_scheduler: {error}; is train_cfg.max_iters longer than warmup_iters?') from error

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = True,
                        revise_keys: Any = ()) -> dict:
        """Load all weights or none (see :func:`projects.engine.checkpoints.read_weights`)."""
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        checkpoint = read_weights(model, filename, config_metainfo(self.cfg), map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)  # EMAHook swaps the two sets of weights here
        model.load_state_dict(checkpoint['state_dict'], strict=True)
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}: {len(checkpoint["state_dict"])} keys, all match')
        if self._resume:
            self._check_same(filename, checkpoint)
            self._resumed = {key: checkpoint[key] for key in ('ranks', 'sampler_seed') if key in checkpoint}
        return checkpoint

    def _check_same(self, filename: str, checkpoint: dict) -> None:
        """Refuse a resume on what a checkpoint's state does not mean anything for."""
        optimizer = checkpoint.get('optimizer_type', self._optimizer_type())
        if optimizer != self._optimizer_type():
            raise UserError(f'checkpoint {filename}: cannot resume, its optimizer is {optimizer}, the config has '
                            f'{self._optimizer_type()}; start a new stage with load_from instead')
        length = checkpoint.get('epoch_length')
        if length is not None and length != self._epoch_length():
            raise UserError(f'checkpoint {filename}: cannot resume, an epoch had {length} batches and has '
                            f'{self._epoch_length()} now (other data, batch size or number of processes); resume with '
                            'what it began with, or start a new stage with load_from')

    def _optimizer_type(self) -> str:
        optimizer = self.optim_wrapper.optimizer
        base = f'({type(optimizer.base).__name__})' if hasattr(optimizer, 'base') else ''
        return f'{type(optimizer).__name__}{base}'

    def _epoch_length(self) -> int | None:
        loop = self.train_loop
        return len(loop.dataloader) if isinstance(loop, ResumableEpochLoop) else None

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume; a checkpoint without training state is a user's error, a changed learning rate is said."""
        rates, schedules = self._first_rates(), self._schedules()
        try:
            super().resume(filename, *args, **kwargs)
        except KeyError as error:
            raise UserError(f'checkpoint {filename}: cannot resume, it has no {error} (weights only?); '
                            'start a new stage with load_from instead') from error
        except ValueError as error:  # of the optimizer
            raise UserError(f'checkpoint {filename}: cannot resume, {error}; start a new stage with load_from instead'
                            ) from error
        self._check_branch(filename)
        if not self.agreement.same(self.iter):
            raise UserError(f'checkpoint {filename}: not all processes have read the same file')
        self._restore(filename)
        for what, new, kept in (*(('learning rate', *pair) for pair in zip(rates, self._first_rates())),
                                *(('schedule', *pair) for pair in zip(schedules, self._schedules()))):
            if new != kept:
                self.logger.warning(f'the resumed run keeps its {what} {kept}, not {new} of the config: a new {what} '
                                    'is a new stage (load_from)')
                break

    def _first_rates(self) -> list[float]:
        return [group.get('initial_lr', group['lr']) for group in self.optim_wrapper.param_groups]

    def _schedules(self) -> list[str]:
        """Return what the schedulers were told, without where they stand."""
        stands = ('last_step', '_global_step', '_last_value', 'base_values', 'verbose')
        found = self.param_schedulers or []
        found = [one for some in found.values() for one in some] if isinstance(found, dict) else found
        return [f'{type(one).__name__} ' + ', '.join(
            f'{key}={value}' for key, value in sorted(one.state_dict().items()) if key not in stands) for one in found]

    def _check_branch(self, filename: str) -> None:
        newer = [path for path in checkpoints_of(self.work_dir)
                 if iteration_of(path) > self.iter and path.resolve() != Path(filename).resolve()]
        if newer:
            raise UserError(f'{self.work_dir}: holds {newer[0].name}, which is newer than iteration {self.iter} of '
                            f'{filename}; resume in another --work-dir, or move the newer ones away')

    def _restore(self, filename: str) -> None:
        """Take over what is not MMEngine's; the generators follow when the first batch is due."""
        state = self._resumed or {}
        sampler = self.train_loop.dataloader.batch_sampler.sampler
        if state.get('sampler_seed') is not None and hasattr(sampler, 'seed'):
            sampler.seed = state['sampler_seed']
        ranks = state.get('ranks')
        same = ranks is not None and len(ranks) == self.world_size
        kept = (ranks[self.rank if same else 0] if ranks else {}).get('hooks', {})
        for name, hook in self._hooks_with_a_state():
            if name in kept:
                hook.load_state_dict(kept[name])
        if not same:
            found = f'{len(ranks)} processes' if ranks else 'no random state'
            self.logger.warning(f'{filename} holds {found}, this run has {self.world_size}: it goes on, but not to the '
                                'same bits')
            self._resumed = None
            return
        set_own_statistics(self._averaged_models(), ranks[self.rank]['statistics'])
        self.train_loop.validated = ranks[self.rank]['validated']

    def _hooks_with_a_state(self) -> list[tuple[str, Any]]:
        """Return hooks that have a state, by their type, numbered where there are several of one."""
        names = Counter()
        found = []
        for hook in self.hooks:
            if hasattr(hook, 'load_state_dict'):
                name = type(hook).__name__
                found.append((f'{name}.{names[name]}' if names[name] else name, hook))
                names[name] += 1
        return found

    def restore_random_state(self) -> None:
        """Set this rank's generators to where a resumed checkpoint left them; without one, leave them alone."""
        if self._resumed is not None:
            set_random_state(self._resumed['ranks'][self.rank]['random'])
            self._resumed = None

    def save_now(self) -> None:
        """Write a checkpoint of this iteration through the checkpoint hook. Collective."""
        for hook in self.hooks:
            if isinstance(hook, AtomicCheckpointHook):
                hook.save(self)

    def save_checkpoint(self, out_dir: str | Path, filename: str, file_client_args: dict | None = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True, meta: dict | None = None,
                        by_epoch: bool = True, backend_args: dict | None = None) -> None:
        """Write a checkpoint whole or not at all. Collective; rank 0 writes.

        Beside MMEngine's keys it holds ``ranks`` (each rank's random state, running statistics, state of hooks and
        last validated iteration), ``sampler_seed``, ``optimizer_type`` and ``epoch_length``.

        Raises:
            UserError: It could not be written (see :func:`projects.engine.checkpoint_files.write_checkpoint`).
        """
        models = self._averaged_models()
        own = own_statistics(models)
        ranks = self.agreement.gather({
            'random': random_state(), 'statistics': own, 'validated': self.train_loop.validated,
            'hooks': {name: hook.state_dict() for name, hook in self._hooks_with_a_state()}})
        self._synchronise()
        try:
            if is_main_process():
                write_checkpoint(self._checkpoint(ranks, save_optimizer, save_param_scheduler, dict(
                    dict(epoch=self.epoch + by_epoch, iter=self.iter + (not by_epoch)), **(meta or {}))),
                    Path(out_dir) / filename)
        finally:
            set_own_statistics(models, own)

    def _checkpoint(self, ranks: list, save_optimizer: bool, save_param_scheduler: bool, meta: dict) -> dict:
        model = self.model.module if is_model_wrapper(self.model) else self.model
        meta.update(cfg=self._config_text, seed=self.seed, experiment_name=self.experiment_name,
                    time=time.strftime('%Y%m%d_%H%M%S', time.localtime()), mmengine_version=mmengine.__version__)
        if hasattr(self.train_dataloader.dataset, 'metainfo'):
            meta['dataset_meta'] = self.train_dataloader.dataset.metainfo
        checkpoint = {'meta': meta, 'state_dict': model.state_dict()}
        if save_optimizer:
            checkpoint.update(
                message_hub=self.message_hub.state_dict(), optimizer=self.optim_wrapper.state_dict(), ranks=ranks,
                optimizer_type=self._optimizer_type(), epoch_length=self._epoch_length(),
                sampler_seed=getattr(getattr(self.train_dataloader.batch_sampler, 'sampler', None), 'seed', None))
        if save_param_scheduler and self.param_schedulers is not None:
            of_one = not isinstance(self.param_schedulers, dict)
            checkpoint['param_schedulers'] = [s.state_dict() for s in self.param_schedulers] if of_one else {
                name: [s.state_dict() for s in found] for name, found in self.param_schedulers.items()}
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        return _on_cpu(checkpoint)

    def _averaged_models(self) -> list[nn.Module]:
        return [self.model, *(hook.ema_model for hook in self.hooks if hasattr(hook, 'ema_model'))]

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        if fn_name in ('before_val', 'after_train'):
            self._synchronise()
        super().call_hook(fn_name, **kwargs)

    def _synchronise(self) -> None:
        for model in self._averaged_models():  # averages of buffers that differed between ranks, too
            synchronise_buffers(model)


def _on_cpu(value: Any) -> Any:
    """Return nested dicts and lists with every tensor on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(item) for item in value)
    return value


def build_runner(config: Config, work_dir: str | Path, launcher: str = 'none', amp: bool = False) -> TerraceRunner:
    """Build the runner of a config on this machine.

    Args:
        config: A config from :func:`projects.engine.config.load_config`; changed in place.
        work_dir: Where logs and checkpoints go.
        launcher: ``none``, ``pytorch`` or ``slurm``.
        amp: Autocast whatever the config says.
    """
    check_consistency(config)
    config.work_dir = str(work_dir)
    start_processes(config, launcher)
    apply_precision(config, device(), amp)
    hooks = list(config.get('custom_hooks') or [])
    for key in HOOK_KEYS:  # bases and children of one line (configs/_base_/): a list could not be merged
        if key != 'initialise' and config.get(key):
            hooks.append(config[key])
    if config.get('initialise'):
        hooks.append(dict(config.initialise, type='InitialiseHook'))
    config.custom_hooks = hooks
    if config.get('distil'):  # checkpoints hold the student alone, under its own keys
        config.model = dict(config.distil, student=config.model, classes=(config_metainfo(config) or {}).get('classes'))
    return TerraceRunner.from_cfg(config)
