"""What tests and hooks read from a predicted sample: its id, its truth, and its wireframes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from projects.engine.errors import UserError
from projects.roofline.graph import RoofGraph
from projects.roofline.wireframe import Wireframe


def sample_id_of(sample: Any) -> str:
    """Return the id of a sample: its ``sample_id``, else the stem of its image.

    Raises:
        UserError: it has neither.
    """
    if sample.get('sample_id') is not None:
        return str(sample.get('sample_id'))
    if sample.get('img_path') is not None:
        return Path(sample.get('img_path')).stem
    raise UserError('a sample has neither sample_id nor img_path; PackRoofline gives both')


def truth_of(sample: Any) -> RoofGraph | None:
    """Return the true graph in pixels of the image; None where the sample has none."""
    return sample.get('graph')


def size_of(sample: Any) -> tuple[int, int]:
    """Return (height, width) of the image in pixels.

    Raises:
        UserError: the sample does not tell.
    """
    shape = sample.get('ori_shape')
    if shape is None:
        raise UserError(f'sample {sample_id_of(sample)}: ori_shape: expected (height, width), found none')
    return int(shape[0]), int(shape[1])


def wireframe_of(sample: Any, unverified: bool = False) -> Wireframe | None:
    """Return the predicted wireframe in pixels of the image.

    Args:
        sample: a data sample or its dict, with ``pred_junctions``, ``pred_junction_scores``, ``pred_lines`` and
            ``pred_line_scores``; of a network of several types of junctions also ``pred_junction_types``.
        unverified: take ``pred_unverified_lines`` and ``pred_unverified_scores`` for the lines; None without them.

    Raises:
        UserError: a prediction is missing, is not finite, has lines of other junctions, or not as many scores or
            types.
    """
    names = ('pred_unverified_lines', 'pred_unverified_scores') if unverified else ('pred_lines', 'pred_line_scores')
    if unverified and sample.get(names[0]) is None:
        return None
    values = {}
    optional = () if sample.get('pred_junction_types') is None else ('pred_junction_types',)
    for name in ('pred_junctions', 'pred_junction_scores', *names, *optional):
        if sample.get(name) is None:
            raise UserError(f'sample {sample_id_of(sample)}: {name}: expected a prediction, found none')
        values[name] = _array(sample.get(name))
        if not np.isfinite(values[name]).all():
            raise UserError(f'sample {sample_id_of(sample)}: {name}: expected finite numbers, found '
                            f'{values[name][~np.isfinite(values[name])][0]}')
    types = values.pop('pred_junction_types', None)
    junctions, junction_scores, lines, scores = values.values()
    for name, items, own in (('pred_junction_scores', junctions, junction_scores), (names[1], lines, scores)):
        if len(items) != len(own):
            raise UserError(f'sample {sample_id_of(sample)}: {name}: expected {len(items)} scores, found {len(own)}')
    if types is not None and len(types) != len(junctions):
        raise UserError(f'sample {sample_id_of(sample)}: pred_junction_types: expected {len(junctions)} types, found '
                        f'{len(types)}')
    if len(lines) and (lines.min() < 0 or lines.max() >= len(junctions)):
        raise UserError(f'sample {sample_id_of(sample)}: {names[0]}: expected junctions 0 to {len(junctions) - 1}, '
                        f'found {int(lines.min())} to {int(lines.max())}')
    return Wireframe.make(junctions, lines, scores, junction_scores, types)


def _array(values: Any) -> np.ndarray:
    return torch.as_tensor(values).detach().cpu().double().numpy()
