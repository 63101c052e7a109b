"""Predict land cover: from a config, a checkpoint and images or GeoTIFFs of any size to class rasters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.geo.prediction import Outputs, Prediction, find_inputs, plan_outputs, predict_files
from projects.multiscale.ensemble_options import EnsembleOptions, resolve_ensemble

WINDOW, OVERLAP = 512, 128  # for a config whose test_cfg names no sliding window
NO_ENSEMBLE = EnsembleOptions()
ONE_VIEW = {'scales': (1.0,), 'flips': ('none',)}


def predict(
    config: str | Path,
    checkpoint: str | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    window: int | None = None,
    overlap: int | None = None,
    batch_size: int = 2,
    device: str | None = None,
    amp: bool = False,
    probabilities: bool = False,
    overlay: bool = False,
    polygons: bool = False,
    areas: bool = False,
    uncertainty: bool = False,
    ensemble: EnsembleOptions = NO_ENSEMBLE,
    overwrite: bool = False,
    cfg_options: dict[str, Any] | None = None,
    on_result: Callable[[Prediction], None] | None = None,
) -> list[Prediction]:
    """Predict an image, a folder of images, or GeoTIFFs of any size.

    Windows overlap, and where they do their class probabilities are averaged, each weighted by a taper towards the
    window's edges. For ``NAME.tif`` the folder ``out`` receives ``NAME.tif`` (classes, uint8, with the input's CRS,
    transform and size, colour table, class names, nodata 255 and overviews); for ``NAME.png`` or ``NAME.jpg`` a
    palette PNG. The optional files are those of :class:`projects.geo.prediction.Outputs`.

    Args:
        config: path of the config. Its ``test_pipeline[0]`` says which bands the network sees, and how values of more
            than 8 bits are scaled (``bands``, ``value_range``).
        checkpoint: path of the weights; they must fit strictly.
        inputs: a file, a folder (its images, without subfolders), or a list of both.
        out: folder for the outputs; made when missing.
        window: side of a window in pixels. Default: ``crop_size`` of the model's ``test_cfg`` when that slides, else
            512.
        overlap: pixels shared by neighbouring windows. Default: window - ``stride`` of the same, else a quarter
            window.
        batch_size: windows given to the network at once.
        device: default CUDA where it works, else the CPU.
        amp: autocast to bfloat16. Default: float32, as in a test, whatever the config trains with.
        probabilities, overlay, polygons, areas, uncertainty: what to write beside the classes.
        ensemble: further networks and test-time views; each window is put through all of them. Default: one network,
            one view.
        overwrite: replace existing outputs; without it they are an error. Inputs are never replaced.
        cfg_options: dotted paths and their values.
        on_result: called with each :class:`Prediction` as it is finished.

    Returns:
        One :class:`Prediction` per input, in order. Among several inputs one that fails does not stop the others:
        look at its ``error``.

    Raises:
        UserError: wrong options, config or checkpoint, nothing to predict, outputs in the way, or a failing input
            when it is the only one.
    """
    outputs = Outputs(probabilities, overlay, polygons, areas, uncertainty)
    plan_outputs(find_inputs(inputs), out, outputs, overwrite)  # a mistake shows before the model is loaded
    from projects.engine.inference import load_model

    model, cfg = load_model(config, checkpoint, device=device, cfg_options=cfg_options)
    where = next(model.parameters()).device
    channels_last = bool(cfg.get('precision', {}).get(where.type, {}).get('channels_last', False))
    resolved = resolve_ensemble(ensemble, cfg, checkpoint) if ensemble.wanted else None
    views = dict(ONE_VIEW) if resolved is None else {
        key: value for key, value in resolved.settings.items() if key != 'type'} | {'members': resolved.members}
    windows = WindowModel(model, amp, uncertainty, **{'channels_last': channels_last, **views})
    notes = () if resolved is None else resolved.notes
    checkpoints = (Path(checkpoint),) if resolved is None else resolved.checkpoints
    window, overlap = window_of(cfg, window, overlap)
    reader = reader_of(cfg)
    meta = model.dataset_meta
    classes = tuple(meta['classes'])
    tags = {'TAXONOMY': str(meta.get('taxonomy', '')), 'TAXONOMY_HASH': str(meta.get('taxonomy_hash', '')),
            'CHECKPOINT': ', '.join(path.name for path in checkpoints)}
    results = []
    for result in predict_files(
        windows, inputs, out, outputs, overwrite, classes=classes,
        palette=palette_of(meta, len(classes)), window=window, overlap=overlap, batch_size=batch_size,
        tags={key: value for key, value in tags.items() if value}, **reader,
    ):
        result = replace(result, warnings=(*notes, *result.warnings, *windows.warnings()))
        notes = ()  # once is enough
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


class WindowModel:
    """A segmentor, or an ensemble of views and segmentors, as a function from windows to probabilities.

    Args:
        model: an mmseg segmentor in eval mode, on its device.
        amp: run it under bfloat16 autocast.
        disagreement: also give the disagreement of the networks, as one plane after the probabilities.
        views: arguments of :class:`projects.multiscale.ensemble.EnsembleTTA`. Default: one network, one view.
    """

    def __init__(self, model: nn.Module, amp: bool = False, disagreement: bool = False, **views: Any) -> None:
        from projects.multiscale.ensemble import EnsembleTTA

        self.device = next(model.parameters()).device
        self.ensemble = EnsembleTTA(model, **(views or ONE_VIEW)).to(self.device).eval()
        self.amp, self.disagreement = amp, disagreement

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """From ``(N, C, H, W)`` float32, 0..255, RGB, to ``(N, classes, H, W)`` float32 probabilities."""
        images = torch.from_numpy(windows).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            probabilities, spread = self.ensemble.merge_views(images, whole=True, disagreement=self.disagreement)
        if spread is not None:
            probabilities = torch.cat([probabilities, spread[:, None]], dim=1)
        return probabilities.cpu().numpy()

    def warnings(self) -> tuple[str, ...]:
        """Return what to say about the windows since the last call."""
        from projects.multiscale.agreement import agreement_note

        note = agreement_note(*self.ensemble.take_agreement(), len(self.ensemble.members))
        return (note,) if note else ()


def to_probabilities(logits: Tensor) -> Tensor:
    """From logits ``(N, C, H, W)`` to probabilities; one channel of a binary head becomes two."""
    from projects.multiscale.ensemble import class_logits

    return class_logits(logits).softmax(dim=1)


def window_of(cfg: Any, window: int | None = None, overlap: int | None = None) -> tuple[int, int]:
    """Return window and overlap in pixels: the arguments, else those of the model's sliding ``test_cfg``, else 512/128.

    Raises:
        UserError: the config's window is not square.
    """
    test_cfg = cfg.model.get('test_cfg') or {}
    if window is None and test_cfg.get('mode') == 'slide':
        (height, width), (step, across) = test_cfg['crop_size'], test_cfg['stride']
        if height != width or step != across:
            raise UserError(f'model.test_cfg: expected a square crop_size and stride, found {height}x{width} and '
                            f'{step}x{across}: set window and overlap')
        window, overlap = height, height - step if overlap is None else overlap
    window = WINDOW if window is None else window
    if overlap is None:
        overlap = window * OVERLAP // WINDOW
    return window, overlap


def reader_of(cfg: Any) -> dict[str, Any]:
    """Return ``bands`` and ``value_range`` of the config's `LoadRasterImage`.

    Raises:
        UserError: its test pipeline reads images in another way.
    """
    steps = cfg.get('test_pipeline') or ()
    for step in steps:
        if step.get('type') == 'LoadRasterImage':
            value_range = step.get('value_range')
            return {'bands': tuple(step.get('bands') or (1, 2, 3)),
                    'value_range': None if value_range is None else tuple(value_range)}
    if steps:
        raise UserError(f'config {cfg.filename}: expected a test_pipeline with LoadRasterImage, found '
                        f'{steps[0].get("type")}: photographs of another task go with the predict.py of its folder in '
                        'tools/')
    return {'bands': (1, 2, 3), 'value_range': None}


def palette_of(meta: dict[str, Any], count: int) -> list[tuple[int, int, int]]:
    """Return the palette that came with the classes, or greys where none did."""
    palette = meta.get('palette')
    if palette and len(palette) == count:
        return [tuple(int(value) for value in colour) for colour in palette]
    return [(level, level, level) for level in np.linspace(0, 254, count).astype(int).tolist()]
