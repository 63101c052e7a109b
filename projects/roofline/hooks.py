"""Hooks on predicted wireframes: pictures and files of a test, pictures of each validation for W&B."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from projects.engine.files import atomic_path, write_text
from projects.engine.tracking.backend import TerraceWandbBackend
from projects.evaluation.gallery import displayable, file_stem
from projects.evaluation.hooks import PredictionGalleryHook
from projects.evaluation.tracking import SegmentationTrackingHook
from projects.roofline.drawing import canvas_of, draw_errors, draw_graph, draw_wireframe, line_errors, wireframe_panel
from projects.roofline.samples import sample_id_of, size_of, truth_of, wireframe_of
from projects.roofline.wireframe import LINE_SCORE

COLUMNS = ('sample', 'image', 'truth', 'prediction', 'errors', 'matched', 'false', 'missed')


@HOOKS.register_module()
class WireframeGalleryHook(PredictionGalleryHook):
    """Write one picture a test sample: image | truth | prediction | errors (green matched, red false, blue missed).

    Args:
        show_dir: folder of the pictures, each named by its sample id.
        number: how many samples, the first of the split in each process; ``None`` draws all.
        threshold: score of a line that is drawn, 0..1.
        bands: bands of multi-band images, 1-based.
        value_range: ``(low, high)`` of images with more than 8 bits.
        side: longer side of a panel in pixels.

    An unreadable image leaves its panel out with a warning.
    """

    def __init__(self, show_dir: str, number: int | None = None, threshold: float = LINE_SCORE,
                 bands: Sequence[int] = (1, 2, 3), value_range: Sequence[float] | None = None, side: int = 640) -> None:
        super().__init__(show_dir, number, bands=bands, value_range=value_range, side=side)
        self.threshold = threshold

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                        outputs: Sequence[Any] | None = None) -> None:
        """Draw the samples of one batch."""
        limit = math.inf if self.number is None else math.ceil(self.number / get_world_size())
        for sample in outputs or ():
            if self._drawn >= limit:
                return
            self._drawn += 1
            name, size = sample_id_of(sample), size_of(sample)
            picture = wireframe_panel(
                self._image(sample, size), truth_of(sample), wireframe_of(sample), size, threshold=self.threshold,
                title=name, side=self.side)
            with atomic_path(self.show_dir / f'{file_stem(name)}.png') as temporary:
                picture.save(temporary)


@HOOKS.register_module()
class WireframeWriterHook(Hook):
    """Write each test prediction as ``OUT_DIR/<sample id>.json``, in pixels of the image: (x, y), corner origin.

    ``{"sample_id", "file", "width", "height", "junctions": [[x, y], …], "junction_scores": […], "lines": [[i, j], …],
    "scores": […], "resolution", "crs", "transform"}``; the last three are null where they are not known. Lines are in
    descending order of score, junctions are those of the network, with or without a line. A network of several types
    of junctions adds ``"junction_types": […]``.

    Args:
        out_dir: folder of the files.
        threshold: score of a line that is written, 0..1. Default 0, all.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str, threshold: float = 0.0) -> None:
        self.out_dir, self.threshold = Path(out_dir), threshold

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None,
                        outputs: Sequence[Any] | None = None) -> None:
        """Write the files of one batch."""
        for sample in outputs or ():
            name = sample_id_of(sample)
            value = wireframe_record(sample, self.threshold)
            write_text(self.out_dir / f'{file_stem(name)}.json', json.dumps(value, ensure_ascii=False) + '\n')


def wireframe_record(sample: Any, threshold: float = 0.0) -> dict[str, Any]:
    """Return the predicted wireframe of a sample as plain values; see :class:`WireframeWriterHook`."""
    predicted, (height, width) = wireframe_of(sample), size_of(sample)
    order = np.argsort(-predicted.scores, kind='stable')
    order = order[predicted.scores[order] >= threshold]
    path, transform = sample.get('img_path'), sample.get('transform')
    types = predicted.junction_types
    return {
        'sample_id': sample_id_of(sample), 'file': None if path is None else Path(path).name, 'width': width,
        'height': height, 'junctions': predicted.junctions.round(3).tolist(),
        'junction_scores': predicted.junction_scores.round(6).tolist(),
        **({} if types is None else {'junction_types': types.tolist()}), 'lines': predicted.lines[order].tolist(),
        'scores': predicted.scores[order].round(6).tolist(), 'resolution': sample.get('resolution'),
        'crs': None if sample.get('crs') is None else str(sample.get('crs')),
        'transform': None if transform is None else [float(value) for value in transform][:6]}


@HOOKS.register_module()
class WireframeTrackingHook(SegmentationTrackingHook):
    """:class:`~projects.engine.tracking.hook.TrackingHook` with each validation's table ``val/predictions``: image,
    truth, prediction, errors of the same samples each time, as the network is given them.

    Args:
        predictions: Number of samples; 0 draws none.
        side: Longer side of a picture in pixels.
        threshold: Score of a line that is drawn, 0..1.
        upload: See :class:`~projects.engine.tracking.hook.TrackingHook`.
        code: See there.
    """

    def __init__(self, predictions: int = 4, side: int = 512, threshold: float = LINE_SCORE, upload: bool = False,
                 code: bool = True) -> None:
        super().__init__(predictions=predictions, side=side, upload=upload, code=code)
        self.threshold = threshold

    def _row(self, data_batch: Any, sample: Any, meta: Mapping[str, Any]) -> list[Any]:
        image, (scale, x, y) = _input(data_batch), sample.get('letterbox') or (1.0, 0.0, 0.0)
        if image is None:  # merged views
            size, (scale, x, y) = size_of(sample), (1.0, 0.0, 0.0)
        else:
            size = image.shape[:2]
        predicted, truth = wireframe_of(sample).above(self.threshold), truth_of(sample)
        predicted = replace(predicted, junctions=predicted.junctions * scale + [x, y])
        row = [sample_id_of(sample), None if image is None else canvas_of(image, size, self.side)]
        drawn = draw_wireframe(image, predicted, size, self.side, lowest=self.threshold)
        if truth is None:
            return [*row, None, drawn, None, None, None, None]
        truth = truth.moved(np.array([[scale, 0.0, x], [0.0, scale, y]]))
        errors = line_errors(predicted, truth, size)
        return [*row, draw_graph(image, truth, size, self.side), drawn,
                draw_errors(image, predicted, truth, errors, size, self.side),
                int(errors.hits.sum()), int((~errors.hits).sum()), int((~errors.found).sum())]

    def _table(self, backend: TerraceWandbBackend) -> Any:
        import wandb

        table = wandb.Table(columns=list(COLUMNS))
        for name, *pictures, matched, false, missed in self._rows:
            table.add_data(backend.session.scrub.text(name), *(
                None if picture is None else wandb.Image(picture) for picture in pictures), matched, false, missed)
        return table


def _input(data_batch: Any) -> np.ndarray | None:
    """Return the first input of a batch as the network is given it, (H, W, 3) uint8."""
    inputs = data_batch.get('inputs') if isinstance(data_batch, Mapping) else None
    first = inputs[0] if isinstance(inputs, list | tuple | torch.Tensor) and len(inputs) else None
    if not isinstance(first, torch.Tensor) or first.ndim != 3:
        return None
    return displayable(first.permute(1, 2, 0).cpu().numpy())
