"""Fit weights and temperatures of an ensemble on labelled images, and check them on others.

It stands here because it drives an ensemble; the arithmetic is that of `projects.evaluation`, which knows none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.progress import progress
from projects.evaluation.temperature import (
    PixelSample,
    expected_calibration_error,
    fit_temperature,
    fit_weights,
    held_out_groups,
    negative_log_likelihood,
)
from projects.multiscale.ensemble_file import EnsembleFile, FittedMember, write_ensemble
from projects.multiscale.ensemble_options import EnsembleOptions, resolve_ensemble

PIXELS = 20000
TINY = 1e-12


@dataclass(frozen=True)
class Score:
    """Negative log-likelihood and expected calibration error before and after a fit, on some pixels."""

    pixels: int
    images: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


@dataclass(frozen=True)
class Fit:
    """What was fitted: the ensemble, its scores on the part it was fitted on and on the held-out part."""

    ensemble: EnsembleFile
    fitted: Score
    held_out: Score
    notes: tuple[str, ...] = ()


def merge_pixels(views: Tensor, merge: str, weights: Tensor | Sequence[float], temperatures: Sequence[float],
                 temperature: float) -> Tensor:
    """Return the log probabilities (P, C) float64 that ``EnsembleTTA`` gives for single pixels.

    Args:
        views: Logits (P, members, views, C).
        merge: ``'prob'`` or ``'logit'``.
        weights, temperatures, temperature: See :class:`projects.multiscale.ensemble.EnsembleTTA`.
    """
    weights = torch.as_tensor(weights, dtype=torch.float64)
    scaled = views.double() / torch.tensor(temperatures, dtype=torch.float64)[:, None, None]
    if merge == 'logit':
        merged = (scaled.mean(dim=2) * weights[:, None]).sum(dim=1)
    else:
        merged = ((scaled.softmax(dim=-1).mean(dim=2) * weights[:, None]).sum(dim=1) + TINY).log()
    return (merged / temperature).log_softmax(dim=1)


def fit_views(views: Tensor, labels: Tensor, merge: str) -> tuple[list[float], list[float], float]:
    """Return weights and temperatures of the members, and the temperature of all, from sampled pixels.

    One after the other: each member's temperature alone, the weights, the common temperature.

    Args:
        views: Logits (P, members, views, C).
        labels: (P,) int64.
        merge: ``'prob'`` or ``'logit'``.
    """
    if merge == 'vote':
        raise UserError('--merge: expected prob or logit, found vote: votes have no likelihood to fit')
    count = views.shape[1]
    temperatures = [fit_temperature(lambda t, one=views[:, index:index + 1]: negative_log_likelihood(
        merge_pixels(one, merge, [1.0], [t], 1.0), labels)) for index in range(count)]
    weights = fit_weights(lambda w: merge_pixels(views, merge, w, temperatures, 1.0), labels, count)
    if count == 1 and merge == 'logit':  # there one temperature says it all
        return weights, temperatures, 1.0
    common = fit_temperature(lambda t: negative_log_likelihood(
        merge_pixels(views, merge, weights, temperatures, t), labels))
    return weights, temperatures, common


def fit_ensemble(config: str | Path, checkpoint: str | Path, out: str | Path, *,
                 options: EnsembleOptions | None = None, split: str = 'val', ids: str | Path | None = None,
                 pixels: int = PIXELS, device: str | None = None, seed: int = 0,
                 cfg_options: dict[str, Any] | None = None) -> Fit:
    """Fit an ensemble on half the groups of a split, check it on the other half, and write ``ensemble.json``.

    Neighbouring images are of one group, and groups are not divided: what is held out is other ground. Only
    ``pixels`` random labelled pixels of each half are kept, so that memory does not grow with the data.

    Args:
        config, checkpoint: The first network.
        out: The file to write.
        options: Further networks and views; default the config's views.
        split: Of the config's data set.
        ids: A text file of sample ids, one a line: only these. For a data set whose only split is that of the
            training, name spatial blocks that no network was trained on.
        pixels: Most pixels of each half.
        device: Default CUDA where it works, else the CPU.
        seed: Of the choice of pixels.
        cfg_options: Dotted paths and their values.

    Raises:
        UserError: See :func:`projects.multiscale.ensemble_options.resolve_ensemble`; the test split; a merge by vote;
            ids that are not there; fewer than two groups; no labelled pixel.
    """
    from projects.engine.inference import load_model
    from projects.multiscale.ensemble import EnsembleTTA

    if split == 'test':
        raise UserError('--split: expected val or train, found test: what is fitted on a test split cannot be '
                        'scored on it')
    model, cfg = load_model(config, checkpoint, device=device, cfg_options=cfg_options)
    resolved = resolve_ensemble(options or EnsembleOptions(tta=True), cfg, checkpoint)
    settings = {key: value for key, value in resolved.settings.items() if key not in (
        'type', 'weights', 'temperatures', 'temperature')}
    ensemble = EnsembleTTA(model, resolved.members, **settings).to(next(model.parameters()).device).eval()
    if ensemble.merge == 'vote':
        raise UserError('--merge: expected prob or logit, found vote: votes have no likelihood to fit')
    dataset = _dataset(cfg, split)
    positions = _positions(dataset, ids)
    groups = [dataset.get_data_info(position).get('group') or str(dataset.get_data_info(position)['sample_id'])
              for position in positions]
    held_out = held_out_groups(groups)
    parts = {False: PixelSample(pixels, seed), True: PixelSample(pixels, seed + 1)}
    images = {False: 0, True: 0}
    for position, group in progress(list(zip(positions, groups)), 'fit', unit='image'):
        part = group in held_out
        images[part] += 1
        _add(parts[part], ensemble, dataset[position])
    (views, labels), (other_views, other_labels) = (parts[part].result() for part in (False, True))
    weights, temperatures, common = fit_views(views, labels, ensemble.merge)
    fitted = (weights, temperatures, common)
    score = _score(views, labels, ensemble.merge, fitted, images[False])
    other = _score(other_views, other_labels, ensemble.merge, fitted, images[True])
    members = tuple(FittedMember(name, sha256_of(path), weight, temperature) for name, path, weight, temperature in zip(
        short_names(resolved.checkpoints), resolved.checkpoints, weights, temperatures))
    result = EnsembleFile(members, common, ensemble.merge, ensemble.scales, ensemble.flips)
    write_ensemble(out, result, split=split, fitted=vars(score), held_out=vars(other),
                   held_out_groups=sorted(held_out))
    notes = resolved.notes
    if other.ece_after >= other.ece_before:
        notes += (f'on the held-out half the calibration error did not fall ({other.ece_before:.4f} -> '
                  f'{other.ece_after:.4f}): fit on more images, or leave the file aside',)
    notes += tuple(f'{member.file} counts for almost nothing (weight {member.weight:.3f}): the others do as well alone'
                   for member in members if len(members) > 1 and member.weight < 0.01)
    return Fit(result, score, other, notes)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the files' names, with their folder's where names are equal."""
    names = [path.name for path in paths]
    return [name if names.count(name) == 1 else f'{path.parent.name}/{name}' for name, path in zip(names, paths)]


def _dataset(cfg: Any, split: str) -> Any:
    from mmseg.registry import DATASETS

    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        raise UserError(f'config {cfg.filename}: it has no val_dataloader or test_dataloader')
    settings = dict(loader['dataset'], split=split, test_mode=True)
    if cfg.get('test_pipeline'):
        settings['pipeline'] = cfg.test_pipeline
    return DATASETS.build(settings)


def _positions(dataset: Any, ids: str | Path | None) -> list[int]:
    if ids is None:
        return list(range(len(dataset)))
    path = Path(ids)
    if not path.is_file():
        raise UserError(f'--ids {path}: no such file')
    wanted = [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    known = {str(dataset.get_data_info(position)['sample_id']): position for position in range(len(dataset))}
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        raise UserError(f'--ids {path}: expected sample ids of the split, found '
                        f'{missing[0] if missing else "an empty file"}')
    return [known[name] for name in dict.fromkeys(wanted)]


def _add(sample: PixelSample, ensemble: Any, item: dict[str, Any]) -> None:
    """Add random labelled pixels of one image, with the logits of every view."""
    batch = ensemble.module.data_preprocessor.cast_data(pseudo_collate([item]))
    image, data_sample = batch['inputs'][0][None], batch['data_samples'][0]
    if 'gt_sem_seg' not in data_sample:
        raise UserError(f'sample {data_sample.get("sample_id")}: no labels to fit on')
    truth = data_sample.gt_sem_seg.data.reshape(-1).long().cpu()
    labelled = torch.nonzero(truth < ensemble.classes)[:, 0]
    chosen, keys = sample.choose(len(labelled))
    if not len(chosen):
        return
    where = labelled[torch.from_numpy(chosen)]
    size = tuple(data_sample.gt_sem_seg.data.shape[-2:])
    members: list[list[Tensor]] = [[] for _ in ensemble.members]
    for index, logits in ensemble.views(image, size):
        members[index].append(logits[0].flatten(1)[:, where.to(logits.device)].T.cpu())  # (K, C)
    sample.add(keys, torch.stack([torch.stack(views, dim=1) for views in members], dim=1), truth[where])


def _score(views: Tensor, labels: Tensor, merge: str, fitted: tuple, images: int) -> Score:
    count = views.shape[1]
    before = merge_pixels(views, merge, [1 / count] * count, [1.0] * count, 1.0)
    after = merge_pixels(views, merge, *fitted)
    return Score(len(labels), images, negative_log_likelihood(before, labels), negative_log_likelihood(after, labels),
                 expected_calibration_error(before, labels), expected_calibration_error(after, labels))


def report_lines(fit: Fit) -> Iterable[str]:
    """Yield what to print about a fit."""
    for member in fit.ensemble.members:
        yield f'{member.file}: weight {member.weight:.3f}, temperature {member.temperature:.3f}'
    yield f'temperature of all: {fit.ensemble.temperature:.3f}'
    for name, score in (('fitted on', fit.fitted), ('held out', fit.held_out)):
        yield (f'{name:9s} {score.images} images, {score.pixels} pixels: '
               f'NLL {score.nll_before:.4f} -> {score.nll_after:.4f}, '
               f'ECE {score.ece_before:.4f} -> {score.ece_after:.4f}')
