"""How well a network does on each image of a split: whole images, no augmentation, one after the other."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmseg.registry import DATASETS
from torch import nn
from torch.utils.data import DataLoader

from projects.engine.batches import naming_dead_workers, watched
from projects.engine.errors import UserError
from projects.engine.inference import load_model
from projects.engine.progress import progress
from projects.engine.random_state import random_state, set_random_state
from projects.evaluation.confusion import confusion_torch, scores
from projects.multistage.difficulty import Difficulty, SampleDifficulty, checkpoint_facts
from projects.multistage.sample_ids import sample_ids


def score_split(config: str | Path, checkpoint: str | Path, split: str = 'train', *,
                device: str | torch.device | None = None, cfg_options: dict[str, Any] | None = None) -> Difficulty:
    """Score a checkpoint on every image of a split, in float32.

    Args:
        config: Path of a Python config; its ``test_pipeline`` reads the images.
        checkpoint: Weights; loaded strictly, class order compared.
        split: ``train``, ``val`` or ``test``.
        device: Default: CUDA where it works, else the CPU.
        cfg_options: Dotted paths and their values.

    Returns:
        The difficulty of every image, in the data set's order.

    Raises:
        UserError: Whatever the config, the checkpoint or the data have wrong.
    """
    model, cfg = load_model(config, checkpoint, device, cfg_options)
    dataset = whole_images(cfg, split)
    found = score_images(model, dataset, range(len(dataset)), workers=int(cfg.get('num_workers') or 0))
    return Difficulty(tuple(dataset.metainfo['classes']), dict(found), checkpoint_facts(checkpoint))


def whole_images(config: Config, split: str = 'train') -> Any:
    """Build a split's data set with the config's ``test_pipeline``: whole images with their masks, no augmentation.

    Raises:
        UserError: The config has no such split, or no ``test_pipeline``.
    """
    loader = config.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'config {config.filename}: it has no {split}_dataloader')
    if not config.get('test_pipeline'):
        raise UserError(f'config {config.filename}: it has no test_pipeline, which reads whole images to score them')
    dataset = DATASETS.build(_with_pipeline(copy.deepcopy(loader['dataset']), config.test_pipeline))
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    return dataset


def score_images(model: nn.Module, dataset: Any, indices: Sequence[int], workers: int = 0
                 ) -> Iterator[tuple[str, SampleDifficulty]]:
    """Yield (sample id, scores) of images, one at a time; the memory does not depend on their number.

    The network is asked as in a validation: in eval mode, without gradients, in float32. Nothing of it or of the
    generators is changed when the iterator has ended.

    Args:
        model: With ``test_step``; not wrapped for distribution.
        dataset: Whole images with ``gt_sem_seg`` (see :func:`whole_images`).
        indices: Which ones.
        workers: Processes that read them.

    Raises:
        UserError: An image that cannot be read, has no truth, or has a label outside the classes; names the sample.
    """
    ids, classes = sample_ids(dataset), tuple(dataset.metainfo['classes'])
    ignore_index = getattr(dataset, 'ignore_index', 255)
    loader = watched(DataLoader(dataset, batch_size=1, sampler=list(indices), num_workers=workers,
                                collate_fn=pseudo_collate, generator=torch.Generator()))
    with evaluating(model), naming_dead_workers(loader):
        batches = progress(loader, 'score', total=len(indices), unit='image')
        for index, batch in zip(indices, batches, strict=True):
            with torch.no_grad():
                sample = model.test_step(batch)[0]
            if 'gt_sem_seg' not in sample:
                raise UserError(f'sample {ids[index]}: no truth to score against (gt_sem_seg); load masks in '
                                'test_pipeline')
            prediction, truth = (plane.data.reshape(plane.data.shape[-2:])
                                 for plane in (sample.pred_sem_seg, sample.gt_sem_seg))
            counts = confusion_torch(truth, prediction, len(classes), ignore_index, f'sample {ids[index]}')
            yield ids[index], score_counts(counts.cpu().numpy(), classes)


def score_counts(confusion: np.ndarray, classes: Sequence[str]) -> SampleDifficulty:
    """Read the scores of an image off its confusion matrix (C x C integers, row = truth).

    The mean is over the classes of the truth. False alarms of a class that is not there have no IoU of their own; they
    are misses of one that is.
    """
    found = scores(confusion, classes)
    present = [index for index in range(len(classes)) if found.truth_pixels[index]]
    iou = {classes[index]: float(found.iou[index]) for index in present}
    return SampleDifficulty(sum(iou.values()) / len(iou) if iou else None, iou,
                            {classes[index]: int(found.truth_pixels[index]) for index in present})


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode; at the end every module's mode and every generator is what it was."""
    modes = [(module, module.training) for module in model.modules()]
    state = random_state()
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode  # one by one: train() would wake up what is frozen
        set_random_state(state)


def _with_pipeline(dataset: Any, pipeline: Any) -> Any:
    """Replace every pipeline of a data set's config, also of those that it wraps."""
    if isinstance(dataset, dict):
        for key in list(dataset):
            if key == 'pipeline':
                dataset[key] = copy.deepcopy(pipeline)
            elif key in ('dataset', 'datasets'):
                dataset[key] = _with_pipeline(dataset[key], pipeline)
    elif isinstance(dataset, (list, tuple)):
        dataset = [_with_pipeline(item, pipeline) for item in dataset]
    return dataset
