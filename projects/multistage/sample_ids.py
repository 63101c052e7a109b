"""Names of the samples of a data set: what weights and difficulties are keyed by, never a place in a list."""

import os
from collections import Counter
from typing import Any

from projects.engine.errors import UserError


def sample_ids(dataset: Any) -> tuple[str, ...]:
    """Return the id of every sample, in the data set's order.

    Args:
        dataset: A map-style data set with ``get_data_info``; an info's ``sample_id`` counts, else its image's stem.

    Raises:
        UserError: The data set does not name its samples, or two samples have one name.
    """
    if not hasattr(dataset, 'get_data_info'):
        raise UserError(f'{type(dataset).__name__}: expected a data set with get_data_info, which names its samples '
                        '(num_batch_per_epoch cuts a data set without names: use the length of the sampler)')
    ids = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        name = info.get('sample_id') or os.path.splitext(os.path.basename(str(info.get('img_path') or '')))[0]
        if not name:
            raise UserError(f'{type(dataset).__name__}: sample number {index} has neither sample_id nor img_path')
        ids.append(str(name))
    twice = [name for name, number in Counter(ids).items() if number > 1]
    if twice:
        raise UserError(f'{type(dataset).__name__}: {len(twice)} sample ids stand for several samples '
                        f'({named(twice)}): make them unique')
    return tuple(ids)


def named(ids: Any, number: int = 3) -> str:
    """Return the first ids of many, for a message."""
    ids = list(ids)
    return ', '.join(ids[:number]) + (', …' if len(ids) > number else '')
