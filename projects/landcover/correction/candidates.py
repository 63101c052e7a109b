"""Candidates for correction: what several models see instead of the label, the most probably wrong label first."""

import os
import shutil
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import sha256_of, write_json
from projects.engine.progress import progress
from projects.geo.raster import write_mask
from projects.landcover.correction.ranking import IGNORE, ConfidentLearning
from projects.landcover.data.candidates import CANDIDATES_NAME, MOST_MODELS, VERSION
from projects.landcover.data.changes import check_settled
from projects.landcover.data.decisions import DECISIONS_NAME
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest
from projects.landcover.data.prepare import IGNORE_COLOUR
from projects.landcover.taxonomy import Taxonomy, get_taxonomy, suggest

SPLITS = ('val', 'train')  # a test split is not looked at

Predictor = Callable[[str], Iterator[tuple[str, np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Member:
    """A model whose predictions are offered.

    Args:
        config: Path of its config.
        checkpoint: Path of its weights.
        name: What it is called, for people.
    """

    config: str
    checkpoint: str
    name: str


def members_of(config: str, checkpoints: Sequence[str], configs: Sequence[str] = (),
               names: Sequence[str] | None = None) -> list[Member]:
    """Return the models that a command line names.

    Args:
        config: Config of all checkpoints.
        checkpoints: The weights; the first is model `a`.
        configs: 'LETTER=CONFIG' for models of another config.
        names: One a model. Default: the names of the checkpoints' folders, numbered where they are equal.

    Raises:
        UserError: a letter without a checkpoint, or another number of names.
    """
    letters = string.ascii_lowercase[:len(checkpoints)]
    own = {}
    for text in configs:
        letter, equals, path = text.partition('=')
        if not equals or not path or letter not in tuple(letters):
            raise UserError(f'--config-of: expected LETTER=CONFIG with a letter of {letters!r}, found {text!r}')
        own[letter] = path
    if names is None:
        names = [Path(path).resolve().parent.name for path in checkpoints]
        names = [f'{name}-{letter}' if names.count(name) > 1 else name for letter, name in zip(letters, names)]
    if len(names) != len(checkpoints) or len(set(names)) != len(names):
        raise UserError(f'--names: expected {len(checkpoints)} different names, found {list(names)}')
    return [Member(own.get(letter, config), path, name) for letter, path, name in zip(letters, checkpoints, names)]


def find_candidates(
    root: str | Path,
    members: Sequence[Member],
    out: str | Path,
    *,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    cfg_options: dict[str, Any] | None = None,
    device: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Predict a prepared data set with several models and rank its labels by their expected error.

    One image of one model is in memory at a time; the mean probabilities of the models lie on disk in the meantime
    (float16, in a hidden folder of `out` that is removed at the end). Writes ``OUT/predictions/<letter>/<id>.png``,
    palette PNGs of class ids, 255 where the label is not labelled (a correction changes classes, never what is
    labelled), and at last ``OUT/candidates.json``. The data set is not touched. The score is that of
    :class:`ConfidentLearning` on the mean probabilities; the thresholds come from the validation split as far as it is
    among `splits`.

    Args:
        root: Root folder of the data set.
        members: Two to nine models; they become `a`, `b`, … in this order.
        out: Folder to write.
        splits: 'val', 'train' or both.
        limit: Keep only so many of the highest ranks.
        cfg_options: Dotted paths and values for every config.
        device: Default CUDA where it works, else the CPU.
        overwrite: Replace candidates at `out`; never where decisions on them exist.
        dry_run: Check everything, load the models, predict nothing.

    Returns:
        What ``candidates.json`` holds (without items when `dry_run`).

    Raises:
        UserError: test split, too few models, a model of other classes, decisions in the way, or what
            :func:`projects.engine.inference.load_model` raises.
    """
    root, out = Path(root), Path(out)
    check_settled(root)
    manifest = read_manifest(root)
    _check_splits(splits)
    if not 2 <= len(members) <= MOST_MODELS:
        raise UserError(f'--checkpoint: expected 2 to {MOST_MODELS} models, found {len(members)}')
    if limit is not None and limit < 1:
        raise UserError(f'--limit: expected a number from 1 on, found {limit}')
    _check_out(root, out, overwrite)
    taxonomy = get_taxonomy(manifest['taxonomy'])
    items = [item for item in manifest['items'] if item['split'] in splits]
    if not items:
        raise UserError(f'{root}: no images in split {", ".join(splits)}')
    letters = string.ascii_lowercase[:len(members)]
    result = {
        'version': VERSION,
        'data_root': os.path.abspath(root),
        'manifest_sha256': sha256_of(root / MANIFEST_NAME),
        'taxonomy': taxonomy.metainfo,
        'splits': list(splits),
        'models': [
            {'letter': letter, 'name': member.name, 'config': str(member.config), 'checkpoint': str(member.checkpoint),
             'sha256': _hash(member.checkpoint)}
            for letter, member in zip(letters, members)
        ],
        'items': [],
    }
    if dry_run:
        for member in members:
            _load(member, taxonomy, cfg_options, device)
        return result
    (out / CANDIDATES_NAME).unlink(missing_ok=True)
    hidden = out / '.probabilities'
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        for number, (letter, member) in enumerate(zip(letters, members)):
            with predicting(member, root, taxonomy, cfg_options, device) as (predict, _):
                for split in splits:
                    found = predict(split)
                    total = sum(item['split'] == split for item in items)
                    for name, label, probabilities in progress(found, f'{member.name}, {split}', total, 'image'):
                        _add(hidden / f'{name}.npy', probabilities, number)
                        _write_prediction(out / f'predictions/{letter}/{name}.png', label, probabilities, taxonomy)
                        if number == 0:
                            np.save(hidden / f'{name}.label.npy', label)
        scores = rank(items, len(taxonomy.classes), lambda name: (
            np.load(hidden / f'{name}.label.npy'), np.load(hidden / f'{name}.npy').astype(np.float32)))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    order = sorted(items, key=lambda item: (-scores[item['id']], item['id']))[:limit]
    kept = {item['id'] for item in order}
    for letter in letters:
        for path in (out / 'predictions' / letter).glob('*.png'):
            if path.stem not in kept:
                path.unlink()
    for position, item in enumerate(order, start=1):
        predictions = {letter: f'predictions/{letter}/{item["id"]}.png' for letter in letters}
        result['items'].append({
            'sample_id': item['id'],
            'split': item['split'],
            'rank': position,
            'score': round(scores[item['id']], 6),
            'image': item['image'],
            'mask': item['mask'],
            'mask_sha256': item['mask_sha256'],
            'predictions': predictions,
            'prediction_sha256': {letter: sha256_of(out / path) for letter, path in predictions.items()},
        })
    write_json(out / CANDIDATES_NAME, result)
    return result


def rank(items: Sequence[Mapping[str, Any]], classes: int,
         read: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Return {sample id: expected label error} by two passes over the images.

    Args:
        items: `id` and `split` of each; what is in the training split counts as seen by the models.
        classes: Number of classes.
        read: Returns label (H, W) uint8 and probabilities (C, H, W) of a sample.
    """
    learning = ConfidentLearning(classes)
    for item in progress(items, 'thresholds', unit='image'):
        learning.update(*read(item['id']), in_sample=item['split'] == 'train')
    return {item['id']: learning.score(*read(item['id'])) for item in progress(items, 'rank', unit='image')}


@contextmanager
def predicting(member: Member, root: Path, taxonomy: Taxonomy, cfg_options: dict[str, Any] | None = None,
               device: str | None = None) -> Iterator[tuple[Predictor, Any]]:
    """Yield a function that goes through a split, and the loaded config.

    The function yields (sample id, label (H, W) uint8, probabilities (C, H, W) float32), sorted by id. Images are read
    by the config's test pipeline and predicted as in a test: whole, or by its sliding window.
    """
    import torch
    from mmengine.dataset import pseudo_collate

    from projects.landcover.predict import to_probabilities

    model, cfg = _load(member, taxonomy, cfg_options, device)

    def predict(split: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        dataset = dataset_of(cfg, root, split, taxonomy)
        for index in range(len(dataset)):
            with torch.inference_mode():
                (sample,) = model.test_step(pseudo_collate([dataset[index]]))
                probabilities = to_probabilities(sample.seg_logits.data[None].float())[0].cpu().numpy()
            yield sample.sample_id, sample.gt_sem_seg.data[0].cpu().numpy().astype(np.uint8), probabilities

    yield predict, cfg


def dataset_of(cfg: Any, root: Path, split: str, taxonomy: Taxonomy, labels_version: str = 'current') -> Any:
    """Build a split of a prepared data set with a config's test pipeline; `cfg` is loaded."""
    from mmseg.registry import DATASETS

    settings = dict(cfg.test_dataloader.dataset, data_root=str(root), split=split, layout='prepared', remap=None,
                    taxonomy=taxonomy.metainfo, labels_version=labels_version)
    return DATASETS.build(settings)


def _load(member: Member, taxonomy: Taxonomy, cfg_options: dict[str, Any] | None, device: str | None) -> Any:
    from projects.engine.inference import load_model

    model, cfg = load_model(member.config, member.checkpoint, device, cfg_options)
    meta = model.dataset_meta
    if list(meta['classes']) != list(taxonomy.classes):
        raise UserError(f'{member.checkpoint}: classes: the data set has {list(taxonomy.classes)}, the model '
                        f'{list(meta["classes"])}')
    if cfg.get('test_dataloader') is None:
        raise UserError(f'config {member.config}: it has no test_dataloader')
    return model, cfg


def _check_splits(splits: Sequence[str]) -> None:
    for split in splits:
        if split == 'test':
            raise UserError('--split test: labels of a test split are never corrected, so it has no candidates')
        if split not in SPLITS:
            raise UserError(f'--split: unknown split {split!r}{suggest(split, SPLITS)}')


def _check_out(root: Path, out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f'--out {out}: is a file')
    if (out / DECISIONS_NAME).exists():
        raise UserError(f'--out {out}: holds decisions on other candidates ({DECISIONS_NAME}): choose another folder')
    if (out / CANDIDATES_NAME).exists() and not overwrite:
        raise UserError(f'--out {out}: holds candidates already; --overwrite replaces them')
    place, data = out.resolve(), root.resolve()
    if place == data or any(place.is_relative_to(data / name) for name in ('images', 'masks', 'corrections')):
        raise UserError(f'--out {out}: lies among the files of the data set {root}')


def _hash(path: str | Path) -> str:
    if not Path(path).is_file():
        raise UserError(f'checkpoint {path}: no such file')
    return sha256_of(path)


def _add(path: Path, probabilities: np.ndarray, number: int) -> None:
    """Make the file the mean over the models seen so far, this one the `number`th from 0 on."""
    if number:
        before = np.load(path).astype(np.float32)
        probabilities = before + (probabilities - before) / (number + 1)
    np.save(path, probabilities.astype(np.float16))


def _write_prediction(path: Path, label: np.ndarray, probabilities: np.ndarray, taxonomy: Taxonomy) -> None:
    mask = probabilities.argmax(axis=0).astype(np.uint8)
    mask[label == IGNORE] = IGNORE
    write_mask(path, mask, [*taxonomy.palette, *[IGNORE_COLOUR] * (256 - len(taxonomy.palette))])
