"""Score the same predictions in two gloo processes; run by test_metric.py as a script: OUT_DIR LENGTH."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator

from projects.evaluation.metric import SegmentationMetric

META = {'classes': ('background', 'tree', 'road'), 'background': 0}


def sample(index: int) -> dict:
    """A deterministic prediction: each index has its own difficulty."""
    generator = torch.Generator().manual_seed(index)
    truth = torch.randint(0, 3, (1, 9, 8), generator=generator)
    logits = torch.randn(3, 9, 8, generator=generator)
    logits.scatter_add_(0, truth, torch.full((1, 9, 8), 0.5 * index))
    prediction = logits.argmax(0, keepdim=True)
    truth[:, :index % 3] = 255
    return {'sample_id': f'tile_{index}', 'img_path': f'images/tile_{index}.png', 'pred_sem_seg': {'data': prediction},
            'gt_sem_seg': {'data': truth}, 'seg_logits': {'data': logits}}


def score(indices: list[int], length: int) -> tuple[dict, SegmentationMetric]:
    """Feed samples in batches of two to a fresh evaluator."""
    metric = SegmentationMetric()
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = META
    for start in range(0, len(indices), 2):
        evaluator.process([sample(index) for index in indices[start:start + 2]])
    return evaluator.evaluate(length), metric


def work(rank: int, folder: str, length: int) -> None:
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    result = {}
    for shuffle in (False, True):
        indices = list(DefaultSampler(range(length), shuffle=shuffle, seed=3))
        metrics, metric = score(indices, length)
        result[str(shuffle)] = {
            'indices': indices, 'metrics': metrics, 'confusion': metric.last.confusion.tolist(),
            'samples': metric.last.samples, 'confidence': metric.last.calibration.confidence.tolist()}
    Path(folder, f'rank{rank}.json').write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    torch.set_num_threads(1)
    torch.multiprocessing.spawn(work, (sys.argv[1], int(sys.argv[2])), nprocs=2)
