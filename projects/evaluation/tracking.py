"""Tracking of what a segmentation is judged by: confusion matrices and pictures of a few fixed validation samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmseg.registry import HOOKS

from projects.engine.tracking.backend import TerraceWandbBackend
from projects.engine.tracking.hook import TrackingHook, backend_of
from projects.engine.tracking.session import say
from projects.evaluation.gallery import colour_mask, displayable, distinct_palette, error_map

COLUMNS = ('sample', 'image', 'truth', 'prediction', 'error', 'wrong %')


@HOOKS.register_module()
class SegmentationTrackingHook(TrackingHook):
    """:class:`TrackingHook` with each validation's confusion matrix and table of predictions.

    The row of a validation gets ``val/confusion`` (``val/confusion_<prefix>`` of a metric with a prefix), a plot of
    pixels from the int64 matrix, and ``val/predictions``, a table of image, truth, prediction and error of the same
    samples each time, spread over the part of the split that rank 0 sees. A test adds ``test/confusion``.

    Args:
        predictions: Number of samples; 0 draws none.
        side: Longest side of a picture in pixels; larger samples are thinned out by a whole factor.
        ignore_index: Truth label drawn grey.
        upload: See :class:`TrackingHook`.
        code: See :class:`TrackingHook`.
    """

    def __init__(self, predictions: int = 4, side: int = 512, ignore_index: int | None = 255, upload: bool = False,
                 code: bool = True) -> None:
        super().__init__(upload=upload, code=code)
        self.predictions, self.side, self.ignore_index = predictions, side, ignore_index
        self._chosen: frozenset[int] = frozenset()  # batches whose first sample is drawn
        self._rows: list[list[Any]] = []

    def before_val_epoch(self, runner: Any) -> None:
        """Choose the samples, unless this validation was sent before."""
        self._rows, self._chosen = [], frozenset()
        backend = backend_of(runner)
        if not self.predictions or backend is None or not is_main_process():
            return
        self.locate(runner, backend)
        if backend.wants_validation(backend.iteration or 0, backend.epoch):
            batches = len(runner.val_dataloader)
            self._chosen = frozenset(np.linspace(0, batches - 1, min(self.predictions, batches)).round().astype(int))

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                       outputs: Sequence[Any] | None = None) -> None:
        """Draw the first sample of a chosen batch."""
        if batch_idx not in self._chosen or not outputs:
            return
        try:
            meta = runner.val_dataloader.dataset.metainfo
            self._rows.append(self._row(data_batch, outputs[0], meta))
        except Exception as error:  # a picture is not worth a training
            say(f'no pictures of predictions ({type(error).__name__}: {error})')
            self._chosen = frozenset()

    def _row(self, data_batch: Any, sample: Any, meta: Mapping[str, Any]) -> list[Any]:
        prediction = _labels(sample.pred_sem_seg.data)
        palette = meta.get('palette') or distinct_palette(len(meta['classes']))
        image = _image(data_batch, prediction.shape)
        row: list[Any] = [str(sample.get('sample_id') or sample.get('img_path')), image]
        if 'gt_sem_seg' not in sample:
            return [*row, None, colour_mask(prediction, palette, None), None, None]
        truth = _labels(sample.gt_sem_seg.data)
        counted = np.ones(truth.shape, bool) if self.ignore_index is None else truth != self.ignore_index
        wrong = 100 * float((truth != prediction)[counted].mean()) if counted.any() else None
        return [*row, colour_mask(truth, palette, self.ignore_index), colour_mask(prediction, palette, None),
                error_map(truth, prediction, self.ignore_index), wrong]

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Hand tables and plots over, to go with the row that the logger is about to send."""
        super().after_val_epoch(runner, metrics)
        backend = backend_of(runner)
        if backend is None or not is_main_process():
            return
        if backend.wants_validation(backend.iteration or 0, backend.epoch):
            backend.attach(self._extras(backend, runner.val_evaluator, 'val'))
            if self._rows:
                backend.attach({'val/predictions': self._table(backend)})
        self._rows = []

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Add the test's confusion matrix."""
        super().after_test_epoch(runner, metrics)
        backend = backend_of(runner)
        if backend is not None and is_main_process() and backend.experiment is not None:
            extras = self._extras(backend, runner.test_evaluator, 'test')
            if extras:
                backend.session.log(extras if self.tested is None else {'iter': self.tested, **extras})

    def _extras(self, backend: TerraceWandbBackend, evaluator: Any, split: str) -> dict[str, Any]:
        found = {}
        for metric in evaluator.metrics:
            last = getattr(metric, 'last', None)
            if last is not None and hasattr(last, 'confusion'):
                name = f'{split}/confusion' + (f'_{metric.prefix}' if metric.prefix else '')
                found[name] = _plot(backend, np.asarray(last.confusion), last.classes, name)
        return found

    def _table(self, backend: TerraceWandbBackend) -> Any:
        import wandb

        scrub = backend.session.scrub.text
        table = wandb.Table(columns=list(COLUMNS))
        for name, *pictures, wrong in self._rows:
            table.add_data(scrub(name), *(None if picture is None else wandb.Image(_thin(picture, self.side))
                                          for picture in pictures), wrong)
        return table


def _plot(backend: TerraceWandbBackend, confusion: np.ndarray, classes: Sequence[str], title: str) -> Any:
    """Return W&B's own plot of a confusion matrix ``(C, C)``, rows = truth."""
    import wandb

    names = [backend.session.scrub.text(str(name)) for name in classes]
    rows = [[names[i], names[j], int(confusion[i, j])] for i in range(len(names)) for j in range(len(names))]
    columns = ['Actual', 'Predicted', 'nPredictions']
    return wandb.plot_table(
        vega_spec_name='wandb/confusion_matrix/v1', data_table=wandb.Table(columns=columns, data=rows),
        fields={column: column for column in columns}, string_fields={'title': f'{title} (pixels)'})


def _image(data_batch: Any, shape: tuple[int, int]) -> np.ndarray | None:
    """Return the first input of a batch as the network is given it, ``(H, W, 3)`` uint8; None for merged views."""
    inputs = data_batch.get('inputs') if isinstance(data_batch, Mapping) else None
    first = inputs[0] if isinstance(inputs, list | tuple | torch.Tensor) and len(inputs) else None
    if not isinstance(first, torch.Tensor) or first.ndim != 3 or tuple(first.shape[1:]) != tuple(shape):
        return None
    return displayable(first.permute(1, 2, 0).cpu().numpy())


def _thin(picture: np.ndarray, side: int) -> np.ndarray:
    factor = -(-max(picture.shape[:2]) // side)
    return np.ascontiguousarray(picture[::factor, ::factor])


def _labels(data: torch.Tensor) -> np.ndarray:
    return data.reshape(data.shape[-2:]).cpu().numpy()
