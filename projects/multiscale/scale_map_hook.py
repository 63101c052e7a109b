"""The hook that shows which scale a multi-scale backbone listened to, and where."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import HOOKS
from PIL import Image
from torch import nn

from projects.engine.errors import UserError
from projects.engine.files import atomic_path
from projects.engine.loops import trains
from projects.engine.random_state import undisturbed
from projects.engine.tracking.hook import TrackingHook, backend_of, session_of
from projects.engine.trained_network import trained_network
from projects.evaluation.gallery import file_stem
from projects.multiscale.backbone import MultiScaleBackbone
from projects.multiscale.fusion.base import ScaleFusion
from projects.multiscale.scale_map_panel import scale_map_panel


@HOOKS.register_module()
class ScaleMapHook(Hook):
    """Draw, at validations, how much each scale of a :class:`MultiScaleBackbone` counts at each place of each level.

    One picture a sample (:func:`~projects.multiscale.scale_map_panel.scale_map_panel`) goes to
    ``out_dir/iter_<n>/<sample>.png`` (of a test: ``out_dir/test/``), and with tracking to W&B as ``val/scale_maps``
    beside the validation's row. Rank 0 draws, of the samples that it sees. The network is run once more on each of
    these samples, alone and as it is at that moment; random generators stay where they were. A picture that fails is
    logged and never ends a run.

    Args:
        interval: Draw at every so many validations of a training, and at its last.
        number: How many samples, the first ones.
        out_dir: Folder; None: ``work_dir/scale_maps``.
        levels: Which levels of the pyramid, 0 the finest; None: all that are fused.
        test: Draw at a test, too.
        side: Longest side of a panel in pixels.

    Raises:
        UserError: A number is out of range, or (before anything is trained) the model has no multi-scale backbone, or
            one with fusers that weigh no scales, or ``levels`` names a level that is not fused.
    """

    # Before LoggerHook (BELOW_NORMAL), which sends what is attached.
    priority = 'NORMAL'

    def __init__(self, interval: int = 1, number: int = 4, out_dir: str | None = None,
                 levels: Sequence[int] | None = None, test: bool = False, side: int = 256) -> None:
        for key, value in (('interval', interval), ('number', number), ('side', side)):
            if value < 1:
                raise UserError(f'ScaleMapHook.{key}: expected at least 1, found {value}')
        self.interval, self.number, self.test, self.side = interval, number, test, side
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.levels = None if levels is None else tuple(levels)
        self._left = 0  # samples that are still to be drawn
        self._pictures: list[tuple[str, Image.Image]] = []

    def before_train(self, runner: Any) -> None:
        """Refuse a model whose scale maps cannot be drawn."""
        self._find(runner)

    def before_test(self, runner: Any) -> None:
        """Refuse a model whose scale maps cannot be drawn, if they were asked for."""
        if self.test:
            self._find(runner)

    def before_val_epoch(self, runner: Any) -> None:
        """Start counting samples, where this validation's turn has come."""
        self._start(is_main_process() and self._is_due(runner))

    def before_test_epoch(self, runner: Any) -> None:
        """Start counting samples."""
        self._start(is_main_process() and self.test)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                       outputs: Sequence[Any] | None = None) -> None:
        """Draw the samples of a batch."""
        self._draw_batch(runner, data_batch, f'iter_{runner.iter}' if trains(runner) else 'val')

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                        outputs: Sequence[Any] | None = None) -> None:
        """Draw the samples of a batch."""
        self._draw_batch(runner, data_batch, 'test')

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Hand the pictures over, to go with the row that the logger is about to send."""
        backend = backend_of(runner) if self._pictures else None
        if backend is not None:
            try:
                TrackingHook.locate(runner, backend)
                if backend.wants_validation(backend.iteration or 0, backend.epoch):
                    backend.attach({'val/scale_maps': self._images(backend.session)})
            except Exception as error:  # a picture is not worth a training
                _tell(error)
        self._start(False)

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Send the pictures of a test."""
        session = session_of(runner) if self._pictures else None
        if session is not None:
            try:
                session.log({'test/scale_maps': self._images(session)})
            except Exception as error:
                _tell(error)
        self._start(False)

    def _start(self, due: bool) -> None:
        self._left, self._pictures = self.number if due else 0, []

    def _is_due(self, runner: Any) -> bool:
        """Count validations by the training's clock: a resumed training draws at the same ones."""
        if not trains(runner):
            return True
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        done, last = (runner.epoch, runner.max_epochs) if by_epoch else (runner.iter, runner.max_iters)
        return done >= last or (done // runner.val_interval) % self.interval == 0

    def _find(self, runner: Any) -> tuple[nn.Module, MultiScaleBackbone, list[int]]:
        """Return the network, its backbone, and which of its levels are drawn."""
        network = trained_network(runner.model)
        backbone = getattr(network, 'backbone', None)
        if not isinstance(backbone, MultiScaleBackbone):
            raise UserError('ScaleMapHook: expected model.backbone to be a MultiScaleBackbone, found '
                            f'{type(backbone).__name__}')
        if backbone.single_scale:
            raise UserError('ScaleMapHook: expected model.backbone.single_scale=False, found True: one scale always '
                            'wins')
        fused = _fusers(backbone)
        for level, fuser in fused.items():
            if not fuser.has_scale_weights:
                raise UserError(f'ScaleMapHook: expected fusers that weigh scales (ABSIFusion, GatedFusion), found '
                                f'{type(fuser).__name__} at level {level}')
        levels = list(fused) if self.levels is None else list(self.levels)
        if not levels or not set(levels) <= set(fused):
            raise UserError(f'ScaleMapHook.levels: expected some of the fused levels {list(fused)}, found {levels}')
        return network, backbone, levels

    def _draw_batch(self, runner: Any, data_batch: Any, folder: str) -> None:
        inputs = data_batch.get('inputs') if isinstance(data_batch, Mapping) and self._left else None
        for index in range(min(self._left, len(inputs)) if inputs is not None else 0):
            try:
                name, picture = self._draw(runner, inputs[index], data_batch['data_samples'][index])
                with atomic_path((self.out_dir or Path(runner.work_dir) / 'scale_maps') / folder
                                 / f'{file_stem(name)}.png') as temporary:
                    picture.save(temporary)
            except Exception as error:  # a full disk or a font problem must not end a run of days
                self._left = 0
                _tell(error)
                return
            self._pictures.append((name, picture))
            self._left -= 1

    @undisturbed()
    @torch.no_grad()
    def _draw(self, runner: Any, image: Any, sample: Any) -> tuple[str, Image.Image]:
        """Return name and picture of one sample, given as the data loader gives it."""
        if not isinstance(image, torch.Tensor) or image.dim() != 3:
            raise TypeError('expected one image (C, H, W) a sample, found several views')
        network, backbone, levels = self._find(runner)
        preprocessor = network.data_preprocessor  # it writes into the samples that it is given
        batch = preprocessor(dict(inputs=[image], data_samples=[sample.new()]), False)
        height, width = batch['inputs'].shape[-2:]
        maps = dict(zip(_fusers(backbone), backbone.scale_maps(batch['inputs'])))
        name = _name(sample, self.number - self._left)
        return name, scale_map_panel(
            _padded(_shown(image, preprocessor), height, width), [maps[level][0].cpu().numpy() for level in levels],
            scale_names(backbone, height, width), levels, title=name, side=self.side)

    def _images(self, session: Any) -> list[Any]:
        import wandb

        return [wandb.Image(np.asarray(picture), caption=session.scrub.text(name)) for name, picture in self._pictures]


def _fusers(backbone: MultiScaleBackbone) -> dict[int, ScaleFusion]:
    """Return the fusers by level; the backbone's maps are in their order."""
    return {level: fuser for level, fuser in enumerate(backbone.fusers) if isinstance(fuser, ScaleFusion)}


def scale_names(backbone: MultiScaleBackbone, height: int, width: int) -> list[str]:
    """Return ``'0.5x'`` for each scale, and ``'0.5x (160 x 160)'`` where rounding has made it another one."""
    names = []
    for scale, size, real in zip(backbone.scales, backbone.sizes(height, width), backbone.real_scales(height, width)):
        exact = all(abs(factor - scale) < 1e-6 for factor in real)
        names.append(f'{scale:g}x' if exact else f'{scale:g}x ({size[0]} x {size[1]})')
    return names


def _shown(image: torch.Tensor, preprocessor: nn.Module) -> np.ndarray:
    """Return an input ``(C, H, W)`` as ``(H, W, C)`` with red first."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    swapped = getattr(preprocessor, '_channel_conversion', False) and pixels.shape[2] == 3
    return pixels[..., ::-1] if swapped else pixels


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the image with the grey border that the network's input has: maps cover the border, too."""
    missing = ((0, max(height - image.shape[0], 0)), (0, max(width - image.shape[1], 0)), (0, 0))
    return np.pad(image, missing, constant_values=128)[:height, :width]


def _name(sample: Any, index: int) -> str:
    path = sample.get('img_path')
    return str(sample.get('sample_id') or (Path(path).stem if path else f'sample_{index}'))


def _tell(error: Exception) -> None:
    print_log(f'no scale maps drawn: {type(error).__name__}: {error}', 'current', logging.ERROR)
