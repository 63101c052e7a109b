"""The pyramid of one batch: which rows are points, who neighbours whom, flat and ready to gather."""

from dataclasses import dataclass

import torch
from torch import Tensor

from projects.lidar.graph import FACTOR
from projects.lidar.models.gathering import flat_index, inverse_distance


@dataclass
class Levels:
    """Levels of a batch of B patches, the finest first; rows of level l are ``N_l`` a patch.

    Attributes:
        points: (B, N_l, 3) float32 metres.
        masks: (B, N_l) bool, True for points: the first ``ceil(n / 4**l)`` rows of a patch of n.
        down, near, up: (B*M, k) int64 by level, see :func:`projects.lidar.graph.build_graph`.
        weights: (B*N_l, k) of ``up``, rows sum to 1.
        full: No row of the batch is padding.
    """

    points: list[Tensor]
    masks: list[Tensor]
    down: list[Tensor]
    near: list[Tensor]
    up: list[Tensor]
    weights: list[Tensor]
    full: bool

    @classmethod
    def of(cls, inputs: dict) -> 'Levels':
        """Read them from a network's inputs (see :class:`PointSegmentor`)."""
        graph, mask = inputs['graph'], inputs['mask']
        sizes = [near.shape[1] for near in graph['near']]
        points = [inputs['points'][:, :size] for size in sizes]
        count = mask.sum(1, keepdim=True).clamp_min(1)  # of a patch without points one row answers: no 0 / 0
        masks = []
        for level, size in enumerate(sizes):
            of_level = (count + FACTOR**level - 1) // FACTOR**level
            masks.append(torch.arange(size, device=mask.device) < of_level)
        down = [flat_index(index, size) for index, size in zip(graph['down'], sizes)]
        near = [flat_index(index, size) for index, size in zip(graph['near'], sizes)]
        up = [flat_index(index, size) for index, size in zip(graph['up'], sizes[1:])]
        weights = [inverse_distance(coarse.flatten(0, 1), fine.flatten(0, 1), index)
                   for fine, coarse, index in zip(points, points[1:], up)]
        return cls(points, masks, down, near, up, weights, bool(mask.all()))

    def __len__(self) -> int:
        return len(self.points)
