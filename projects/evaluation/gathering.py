"""The samples of all processes, each once."""

import logging
from collections.abc import Sequence
from typing import Protocol, TypeVar

from mmengine.dist import all_gather_object, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from projects.engine.errors import UserError


class Scored(Protocol):
    """What a sample contributes."""

    sample_id: str


T = TypeVar('T', bound=Scored)


class SampleMetric(BaseMetric):
    """A metric whose ``results`` are one for each sample, with a ``sample_id``.

    ``process`` appends them, ``compute_metrics`` returns the named scores of samples that are each given once.
    """

    default_prefix = ''  # the base class warns about None

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the samples of all ranks, drop repeated ones by id and score them; ``size`` = the split's length.

        Unlike the base class, every rank computes the result: nobody waits for a rank that failed.
        """
        own = list(self.results)
        self.results.clear()
        metrics = self.compute_metrics(gather_unique(own, size))
        return {f'{self.prefix}/{name}': value for name, value in metrics.items()} if self.prefix else metrics


def gather_unique(results: Sequence[T], size: int) -> list[T]:
    """Return what all ranks have scored, on every rank the same: each sample once.

    Distributed samplers repeat samples so that all ranks have equally many; of a repeated sample the lowest rank's
    counts. A split that was scored only in part is warned of.

    Args:
        results: What this rank has scored.
        size: Number of samples in the split.

    Raises:
        UserError: sample ids are not unique.
    """
    gathered = [result for part in all_gather_object(list(results)) for result in part]
    unique: dict[str, T] = {}
    for result in gathered:  # rank by rank
        unique.setdefault(result.sample_id, result)
    # One process repeats nothing; several repeat only after every sample of the split was dealt out.
    if len(unique) < len(gathered) and (len(unique) < size or get_world_size() == 1):
        seen: set[str] = set()
        twice = next(one.sample_id for one in gathered if one.sample_id in seen or seen.add(one.sample_id))
        raise UserError(f'{len(gathered)} samples were scored, but only {len(unique)} different sample ids '
                        f'(expected {size}); {twice!r} is one that repeats: make the ids unique')
    if len(unique) < size:
        print_log(f'scored {len(unique)} of the {size} samples of the split', 'current', logging.WARNING)
    return list(unique.values())
