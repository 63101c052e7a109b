"""Batches of made-up patches, padded as the loader does, for tests of networks."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from projects.lidar.graph import build_graph

TINY = dict(type='HybridPointNet', widths=(16, 32, 32, 32, 32), expansion=2)
BASELINE = dict(type='RandLAPointNet', widths=(8, 16, 32, 32, 32), out_widths=(32, 16))


def patch(points: int, seed: int = 0, size: float = 50.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions (n, 3), features (n, 21) and labels (n,) of a flat ground with boxes; height tells the class."""
    generator = np.random.default_rng(seed)
    xyz = generator.uniform((-size / 2, -size / 2, 0), (size / 2, size / 2, 0.2), (points, 3))
    box = (np.abs(xyz[:, :2] - size / 8) < size / 6).all(1)
    xyz[box, 2] += 6.0
    features = generator.normal(0, 0.3, (points, 21))
    features[:, 10] = xyz[:, 2] / 10
    return xyz.astype(np.float32), features.astype(np.float32), np.where(box, 4, 23)


def batch_of(patches: Sequence[tuple], rows: int | None = None, sizes: Sequence[float] | None = None, **graph
             ) -> tuple[dict, list[SegDataSample]]:
    """Pad patches to ``rows`` with noise (what is masked may be anything) and return inputs and data samples."""
    rows = rows or -(-max(len(one[0]) for one in patches) // 256) * 256
    noise = np.random.default_rng(99)
    lists, columns = [], {'points': [], 'features': [], 'mask': []}
    for xyz, features, _ in patches:
        padding = rows - len(xyz)
        columns['points'].append(np.concatenate((xyz, noise.normal(0, 50, (padding, 3)).astype(np.float32))))
        columns['features'].append(np.concatenate((features, noise.normal(0, 9, (padding, 21)).astype(np.float32))))
        columns['mask'].append(np.arange(rows) < len(xyz))
        lists.append(build_graph(columns['points'][-1], len(xyz), **graph))
    inputs = {key: torch.from_numpy(np.stack(values)) for key, values in columns.items()}
    inputs['context'] = torch.tensor([[np.log2(size / 50), 0.5] for size in sizes or [50.0] * len(patches)]).float()
    inputs['graph'] = {key: [torch.from_numpy(np.stack([one[key][level] for one in lists]))
                             for level in range(len(lists[0][key]))] for key in lists[0]}
    return inputs, [SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(one[2])[None, None])) for one in patches]
