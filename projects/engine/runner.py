"""The runner that every task uses: MMEngine's, with the defaults that lose runs or silently do less taken out."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmseg.registry import RUNNERS
from torch import nn
from torch.utils.data import DataLoader

from projects.engine.checkpoints import read_weights
from projects.engine.consistency import check_consistency, config_metainfo
from projects.engine.distributed import start_processes, synchronise_buffers
from projects.engine.errors import UserError
from projects.engine.precision import apply_precision
from projects.engine.startup import device


@RUNNERS.register_module()
class TerraceRunner(Runner):
    """MMEngine's ``Runner``, strict.

    - Weights are loaded all or not at all, and only when the class order agrees.
    - Without CUDA, SyncBN becomes BN also under several processes.
    - Running statistics are equal on all ranks before a validation, a save and the end.
    """

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
        try:
            return Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        except ValueError as error:
            raise UserError(f'dataloader: {error}') from error

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        loop = super().build_train_loop(loop)
        if isinstance(loop, EpochBasedTrainLoop) and not len(loop.dataloader):
            raise UserError(f'train_dataloader: an epoch has no batch: {len(loop.dataloader.dataset)} images over '
                            f'{self.world_size} processes make no batch of {loop.dataloader.batch_size}')
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
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume; a checkpoint without training state is a user's error, a changed learning rate is said."""
        wanted = (self.cfg.get('optim_wrapper') or {}).get('optimizer', {}).get('lr')
        try:
            super().resume(filename, *args, **kwargs)
        except KeyError as error:
            raise UserError(f'checkpoint {filename}: cannot resume, it has no {error} (weights only?); '
                            'start a new stage with load_from instead') from error
        kept = max((group.get('initial_lr', group['lr']) for group in self.optim_wrapper.param_groups), default=None)
        if wanted is not None and kept is not None and abs(kept - wanted) > 1e-9 * abs(wanted):
            self.logger.warning(f'the resumed run keeps its learning rate {kept:g}, not {wanted:g} of the config: a '
                                'new rate is a new stage (load_from)')

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._synchronise()
        super().save_checkpoint(*args, **kwargs)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        if fn_name in ('before_val', 'after_train'):
            self._synchronise()
        super().call_hook(fn_name, **kwargs)

    def _synchronise(self) -> None:
        synchronise_buffers(self.model)
        for hook in self.hooks:
            if hasattr(hook, 'ema_model'):  # averages of buffers that differed between ranks
                synchronise_buffers(hook.ema_model)


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
    for key in ('ema', 'early_stopping', 'tracking'):  # one-line bases (configs/_base_/): a list could not be merged
        if config.get(key):
            hooks.append(config[key])
    config.custom_hooks = hooks
    return TerraceRunner.from_cfg(config)
