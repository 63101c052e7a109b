"""The 8-bit map of a prediction: what is written for the field's evaluators, and what is scored here."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.engine.errors import UserError
from projects.evaluation.gallery import file_stem

TOLERANCE = 1e-3  # how far rounding may lead a probability out of 0..1


def grey_map(sample: Mapping[str, Any]) -> np.ndarray:
    """Return the probability of an object x 255, rounded, ``(H, W)`` uint8.

    Read from ``seg_probs`` (the second of two classes) where a sample has them, else from ``seg_logits``: a single
    channel is a probability already (mmseg puts it through the sigmoid), of two the softmax is taken. It is resized
    bilinearly to the size of the truth, or without one to ``ori_shape``, before it is rounded.

    Args:
        sample: a data sample as a dict (``SegDataSample.to_dict()``).

    Raises:
        UserError: there is neither, there are other channels, or values are not probabilities; names the sample.
    """
    probability = _probability(sample)
    size = tuple(sample['gt_sem_seg']['data'].shape[-2:]) if 'gt_sem_seg' in sample else sample.get('ori_shape')
    if size is not None and tuple(size[:2]) != tuple(probability.shape):
        probability = F.interpolate(probability[None, None], tuple(size[:2]), mode='bilinear',
                                    align_corners=False)[0, 0]
    return (probability * 255).round().to(torch.uint8).cpu().numpy()


def name_of(sample: Mapping[str, Any]) -> str:
    """Return what identifies a sample: its ``sample_id``, else the path of its image.

    Raises:
        UserError: it has neither.
    """
    name = sample['sample_id'] if sample.get('sample_id') is not None else sample.get('img_path')
    if name is None:
        raise UserError("a sample has neither sample_id nor img_path; add 'sample_id' to meta_keys of PackSegInputs")
    return str(name)


def map_path(sample: Mapping[str, Any]) -> PurePosixPath:
    """Return where a sample's map lies in a folder of maps: ``<dataset>/<stem>.png``.

    The data set is the sample's ``dataset``; the stem is the rest of a ``sample_id`` of the form
    ``<dataset>/<stem>``, or that of its image. A sample without a data set lies in no folder.
    """
    dataset, sample_id = sample.get('dataset'), sample.get('sample_id')
    if sample_id is None:
        stem = PurePosixPath(name_of(sample).replace('\\', '/')).stem
    elif dataset is not None:
        stem = str(sample_id).removeprefix(f'{dataset}/')
    else:
        first, slash, rest = str(sample_id).partition('/')
        dataset, stem = (first, rest) if slash else (None, first)
    file = f'{_component(stem)}.png'
    return PurePosixPath(file) if dataset is None else PurePosixPath(_component(str(dataset)), file)


def _component(name: str) -> str:
    """Return a name for one file or folder; evaluators look for the image's own, so that it is kept where it can be."""
    safe = name and not name.startswith('.') and not set(name) & set('/\\\0')
    return name if safe else file_stem(name)


def _probability(sample: Mapping[str, Any]) -> Tensor:
    name = name_of(sample)
    key = next((key for key in ('seg_probs', 'seg_logits') if key in sample), None)
    if key is None:
        raise UserError(f'sample {name}: expected seg_probs or seg_logits, found neither')
    scores = sample[key]['data'].detach().float()  # bfloat16 has 8 bits, too few for 255 steps near 1
    if scores.ndim != 3 or len(scores) not in (1, 2):
        raise UserError(f'sample {name}: expected {key} of 1 or 2 channels (C, H, W), found {tuple(scores.shape)}')
    if len(scores) == 1:
        probability = scores[0]
    else:
        probability = scores[1] if key == 'seg_probs' else scores.softmax(0)[1]
    low, high = (float(value) for value in probability.aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise UserError(f'sample {name}: expected probabilities 0..1 in {key}, found {low:.4g}..{high:.4g}')
    return probability.clamp(0, 1)
