"""Batches of as many patches as a number of points allows: small patches in large batches, large ones in small."""

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATA_SAMPLERS

from projects.engine.errors import UserError


@DATA_SAMPLERS.register_module()
class PointBudgetBatchSampler:
    """Fill each batch, in the sampler's order, until another patch would exceed the points.

    What counts is what a network computes: the largest patch of the batch times the number of patches, padding
    included. A patch that exceeds the points alone is a batch of its own. The batches depend on the sampler's order
    alone, so a resumed run goes on with the same ones.

    How many batches a shuffled pass makes depends on its order, and an epoch must have one length, on all ranks. So
    there it is the number that an order drawn once makes: of a pass that makes more, the last patches are left out of
    that epoch; one that makes fewer begins again with its first patches.

    Args:
        sampler: Its data set tells ``point_counts()``.
        batch_size: Patches of a batch at most.
        max_points: Rows of a batch at most.

    Raises:
        UserError: another data set, numbers below 1.
    """

    def __init__(self, sampler: Any, batch_size: int, max_points: int) -> None:
        if batch_size < 1 or max_points < 1:
            raise UserError('PointBudgetBatchSampler: expected batch_size and max_points of at least 1, found '
                            f'{batch_size} and {max_points}')
        dataset = getattr(sampler, 'dataset', None)
        if not hasattr(dataset, 'point_counts'):
            raise UserError('PointBudgetBatchSampler: expected a data set that counts its points '
                            f'(LidarPatchDataset), found {type(dataset).__name__}')
        self.sampler, self.batch_size, self.max_points = sampler, batch_size, max_points
        self.counts = dataset.point_counts()
        self.endless = isinstance(sampler, InfiniteSampler)
        self.shuffled = not self.endless and getattr(sampler, 'shuffle', True)
        self._length: int | None = None

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffled:
            yield from self._filled(self.sampler)
            return
        batches = self._filled(cycle(list(self.sampler)))
        for _ in range(len(self)):
            yield next(batches)

    def _filled(self, indices: Iterable[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        largest = 0
        for index in indices:
            count = int(self.counts[index])
            grown = max(largest, count)
            if batch and (len(batch) == self.batch_size or grown * (len(batch) + 1) > self.max_points):
                yield batch
                batch, grown = [], count
            batch.append(index)
            largest = grown
        if batch:
            yield batch

    def __len__(self) -> int:
        """Return the batches of one pass; of an endless sampler those that one pass over the data has at least."""
        if self._length is None:
            order: Iterable[int] = self.sampler
            if self.endless:
                return -(-len(self.sampler) // self.batch_size)
            if self.shuffled:
                order = np.random.default_rng(0).permutation(len(self.counts))[:len(self.sampler)].tolist()
            self._length = sum(1 for _ in self._filled(order))
        return self._length
