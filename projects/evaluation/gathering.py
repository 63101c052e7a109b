"""The samples of all processes, each once."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from mmengine.dist import all_gather_object, get_world_size
from mmengine.logging import print_log

from projects.engine.errors import UserError

T = TypeVar('T')


def gather_unique(results: Sequence[T], size: int, id_of: Callable[[T], str] = lambda one: one.sample_id) -> list[T]:
    """Return what all ranks have scored, on every rank the same: each sample once.

    Distributed samplers repeat samples so that all ranks have equally many; of a repeated sample the lowest rank's
    counts. A split that was scored only in part is warned of.

    Args:
        results: What this rank has scored.
        size: Number of samples in the split.
        id_of: Tells the sample that a result belongs to.

    Raises:
        UserError: sample ids are not unique.
    """
    gathered = [result for part in all_gather_object(list(results)) for result in part]
    unique: dict[str, T] = {}
    for result in gathered:  # rank by rank
        unique.setdefault(id_of(result), result)
    # One process repeats nothing; several repeat only after every sample of the split was dealt out.
    if len(unique) < len(gathered) and (len(unique) < size or get_world_size() == 1):
        seen: set[str] = set()
        twice = next(name for name in map(id_of, gathered) if name in seen or seen.add(name))
        raise UserError(f'{len(gathered)} samples were scored, but only {len(unique)} different sample ids '
                        f'(expected {size}); {twice!r} is one that repeats: make the ids unique')
    if len(unique) < size:
        print_log(f'scored {len(unique)} of the {size} samples of the split', 'current', logging.WARNING)
    return list(unique.values())
