"""Hooks that write an evaluation's files, pictures of predictions, and predicted masks."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS

from projects.engine.errors import UserError
from projects.engine.files import atomic_path
from projects.engine.loops import trains
from projects.evaluation.folder import write_evaluation
from projects.evaluation.gallery import file_stem, palette_image, prediction_panel
from projects.evaluation.metric import SegmentationMetric
from projects.evaluation.score_table import write_score_table


@HOOKS.register_module()
class SegmentationReportHook(Hook):
    """Write the tables and pictures of each validation and test into ``work_dir/evaluation/<val|test>/``.

    The files are those of the latest evaluation; ``scores.json`` tells its ``step`` (``iter_<n>``). With several
    :class:`SegmentationMetric` the folder of a prefixed one is ``<val|test>_<prefix>``. A metric of a task that has a
    ``score_table`` (a :class:`~projects.evaluation.score_table.ScoreTable`) gets its files beside them. A failure to
    write or draw is logged and never ends a run.
    """

    priority = 'LOW'

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the files of a validation."""
        self._write(runner, runner.val_evaluator, 'val', f'iter_{runner.iter}' if trains(runner) else None)

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the files of a test."""
        self._write(runner, runner.test_evaluator, 'test', None)

    def _write(self, runner: Any, evaluator: Any, split: str, step: str | None) -> None:
        if not is_main_process():
            return
        facts = {'split': split, 'step': step, 'timestamp': runner.timestamp}
        if step is None and runner._load_from:  # a training has moved on from what it loaded
            facts['checkpoint'] = Path(runner._load_from).name
        for metric in evaluator.metrics:
            segmentation = isinstance(metric, SegmentationMetric) and metric.last is not None
            table = getattr(metric, 'score_table', None)
            if not segmentation and table is None:
                continue
            name = f'{split}_{file_stem(metric.prefix)}' if metric.prefix else split
            folder = Path(runner.work_dir) / 'evaluation' / name
            taxonomy = {key: value for key, value in (metric.dataset_meta or {}).items() if key.startswith('taxonomy')}
            try:
                if segmentation:
                    write_evaluation(metric.last, folder, {**facts, **taxonomy})
                if table is not None:
                    write_score_table(table, folder, facts)
            except Exception as error:  # a full disk or a font problem must not end a run of days
                print_log(f'evaluation files not written to {folder}: {type(error).__name__}: {error}',
                          'current', logging.ERROR)


class _SampleHook(Hook):
    """What the hooks on single test samples share."""

    priority = 'LOW'

    @staticmethod
    def _meta(runner: Any) -> dict[str, Any]:
        meta = getattr(runner.test_dataloader.dataset, 'metainfo', None) or {}
        if 'classes' not in meta:
            raise UserError("the test dataset's metainfo has no 'classes'")
        return meta

    @staticmethod
    def _stem(sample: Any) -> str:
        """File name of a sample: its id, else the stem of its image."""
        if sample.get('sample_id') is not None:
            return file_stem(str(sample.get('sample_id')))
        if sample.get('img_path') is not None:
            return file_stem(Path(sample.get('img_path')).stem)
        raise UserError("a sample has neither sample_id nor img_path; add 'sample_id' to meta_keys of PackSegInputs")


@HOOKS.register_module()
class PredictionGalleryHook(_SampleHook):
    """Write one picture a test sample: image | truth | prediction | error (green right, red wrong, grey ignored).

    Args:
        show_dir: folder of the pictures, each named by its sample id.
        number: how many samples, the first of the split in each process; ``None`` draws all.
        bands: bands of multi-band images, 1-based, as the test pipeline's ``LoadRasterImage`` reads them.
        value_range: ``(low, high)`` of images with more than 8 bits, as in the test pipeline.
        ignore_index: truth label drawn grey.
        side: longest side of a panel in pixels.

    An unreadable image leaves its panel out with a warning.
    """

    def __init__(
        self,
        show_dir: str,
        number: int | None = None,
        bands: Sequence[int] = (1, 2, 3),
        value_range: Sequence[float] | None = None,
        ignore_index: int | None = 255,
        side: int = 512,
    ) -> None:
        self.show_dir = Path(show_dir)
        self.number = number
        self.bands = tuple(bands)
        self.value_range = None if value_range is None else tuple(value_range)
        self.ignore_index = ignore_index
        self.side = side
        self._drawn = 0

    def before_test_epoch(self, runner: Any) -> None:
        """Start counting anew."""
        self._drawn = 0

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the samples of one batch."""
        limit = math.inf if self.number is None else math.ceil(self.number / get_world_size())
        for sample in outputs or ():
            if self._drawn >= limit:
                return
            self._drawn += 1
            meta = self._meta(runner)
            stem = self._stem(sample)
            truth = _labels(sample.gt_sem_seg.data) if 'gt_sem_seg' in sample else None
            prediction = _labels(sample.pred_sem_seg.data)
            picture = prediction_panel(
                self._image(sample, prediction.shape), truth, prediction, meta['classes'], meta.get('palette'),
                ignore_index=self.ignore_index, title=stem, side=self.side)
            with atomic_path(self.show_dir / f'{stem}.png') as temporary:
                picture.save(temporary, optimize=True)

    def _image(self, sample: Any, shape: tuple[int, int]) -> np.ndarray | None:
        from projects.geo.raster import read_image  # rasterio is only needed for drawing

        path = sample.get('img_path')
        if path is None:
            return None
        try:
            image = read_image(path, bands=self.bands, value_range=self.value_range)
        except UserError as error:
            print_log(f'drawn without its image: {error}', 'current', logging.WARNING)
            return None
        if image.shape[:2] != shape:
            print_log(f'drawn without its image: {path} is {image.shape[1]}x{image.shape[0]}, its prediction '
                      f'{shape[1]}x{shape[0]}', 'current', logging.WARNING)
            return None
        return image


@HOOKS.register_module()
class MaskWriterHook(_SampleHook):
    """Write each test prediction as an 8-bit index PNG with the classes' palette, named by its sample id.

    Args:
        out_dir: folder of the masks. ``tools/score_masks.py --pred-dir OUT_DIR`` scores them.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Write the masks of one batch."""
        for sample in outputs or ():
            meta = self._meta(runner)
            picture = palette_image(_labels(sample.pred_sem_seg.data), meta.get('palette'), len(meta['classes']))
            with atomic_path(self.out_dir / f'{self._stem(sample)}.png') as temporary:
                picture.save(temporary, optimize=True)


def _labels(data: torch.Tensor) -> np.ndarray:
    return data.reshape(data.shape[-2:]).cpu().numpy()
