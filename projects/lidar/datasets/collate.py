"""One batch out of patches of any number of points, with the neighbour lists that the network reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import FUNCTIONS

from projects.lidar.graph import build_graph

MULTIPLE = 256  # of points: level 4 is 1/256 of level 0


@FUNCTIONS.register_module()
def collate_points(items: Sequence[Mapping[str, Any]], multiple: int = MULTIPLE, count: int | None = None,
                   **graph: Any) -> dict[str, Any]:
    """Pad patches to one number of points, find their neighbours and stack them. Runs in the data-loader workers.

    Args:
        items: What `PackPoints` gave, B of them.
        multiple: The number of rows is one of these.
        count: Pad to at least this many rows; default: the largest patch. Shapes that stay the same compile once.
        graph: Further arguments of :func:`projects.lidar.graph.build_graph`.

    Returns:
        ``inputs``: points (B, N, 3), features (B, N, F) float32, mask (B, N) bool, context (B, 2), and ``graph`` with
        lists ``down``, ``near`` and ``up`` of int32 tensors (B, …) by level; ``data_samples``: the list of B samples.
    """
    inputs = [item['inputs'] for item in items]
    counts = [len(one['points']) for one in inputs]
    rows = -(-max(*counts, count or 0, 1) // multiple) * multiple
    batch = {
        'points': torch.from_numpy(_padded([one['points'] for one in inputs], rows)),
        'features': torch.from_numpy(_padded([one['features'] for one in inputs], rows)),
        'mask': torch.from_numpy(np.arange(rows)[None] < np.array(counts)[:, None]),
        'context': torch.from_numpy(np.stack([one['context'] for one in inputs]))}
    graphs = [build_graph(points, valid, **graph) for points, valid in zip(batch['points'].numpy(), counts)]
    batch['graph'] = {
        key: [torch.from_numpy(np.stack([one[key][level] for one in graphs])) for level in range(len(graphs[0][key]))]
        for key in graphs[0]}
    return {'inputs': batch, 'data_samples': [item['data_samples'] for item in items]}


def _padded(arrays: Sequence[np.ndarray], rows: int) -> np.ndarray:
    padded = np.zeros((len(arrays), rows, *arrays[0].shape[1:]), arrays[0].dtype)
    for own, array in zip(padded, arrays):
        own[:len(array)] = array
    return padded
