"""Score the same wireframes in two gloo processes; run by test_wireframe_metric.py as a script: OUT_DIR LENGTH."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator

from projects.roofline.graph import RoofGraph
from projects.roofline.metrics.metric import WireframeMetric


def sample(index: int) -> dict:
    """A deterministic prediction of a gabled roof, with false lines."""
    rng = np.random.default_rng(index)
    corners = np.array([[0, 0], [100, 0], [100, 60], [0, 60], [0, 30], [100, 30]]) * (1 + index)
    corners = corners + rng.uniform(20, 60, 2)
    graph = RoofGraph.make(
        corners, [[0, 1], [1, 5], [5, 2], [2, 3], [3, 4], [4, 0], [4, 5]], faces=((0, 1, 5, 4), (4, 5, 2, 3)))
    junctions = np.concatenate([corners + rng.normal(0, 4, corners.shape), rng.uniform(0, 512, (8, 2))])
    lines = np.concatenate([graph.lines, rng.permutation(14).reshape(7, 2)])
    return {'sample_id': f'roofs/image_{index}', 'img_path': f'images/image_{index}.jpg', 'graph': graph,
            'ori_shape': (512, 640), 'resolution': 0.1, 'pred_junctions': torch.from_numpy(junctions).float(),
            'pred_junction_scores': torch.from_numpy(rng.random(14)), 'pred_lines': torch.from_numpy(lines),
            'pred_line_scores': torch.from_numpy(rng.integers(1, 5, 14) / 5)}


def score(indices: list[int], length: int) -> tuple[dict, WireframeMetric]:
    """Feed samples in batches of two to a fresh evaluator."""
    metric = WireframeMetric()
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = {'classes': ('background', 'roof line')}
    for start in range(0, len(indices), 2):
        evaluator.process([sample(index) for index in indices[start:start + 2]])
    return evaluator.evaluate(length), metric


def work(rank: int, folder: str, length: int) -> None:
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    indices = list(DefaultSampler(range(length), shuffle=True, seed=3))
    metrics, metric = score(indices, length)
    Path(folder, f'rank{rank}.json').write_text(json.dumps(
        {'indices': indices, 'metrics': metrics, 'table': metric.score_table.to_dict()}))
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    torch.set_num_threads(1)
    # Forked, so that the imports above are paid for once.
    torch.multiprocessing.start_processes(work, (sys.argv[1], int(sys.argv[2])), nprocs=2, start_method='fork')
