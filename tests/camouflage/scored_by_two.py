"""Score the same maps in two gloo processes; run by test_camouflage_metric.py as a script: OUT_DIR LENGTH."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator

from projects.camouflage.metrics.metric import CamouflageMetric


def sample(index: int) -> dict:
    """A deterministic prediction of one of two data sets, the first without an object."""
    generator = torch.Generator().manual_seed(index)
    truth = torch.zeros(1, 20, 24, dtype=torch.long)
    truth[:, 5:5 + index, 6:8 + index] = 1
    probability = (0.5 * torch.rand(1, 20, 24, generator=generator) + 0.4 * truth).clamp(0, 1)
    dataset = ('CAMO', 'COD10K')[index % 2]
    return {'sample_id': f'{dataset}/image_{index}', 'dataset': dataset, 'img_path': f'images/image_{index}.jpg',
            'gt_sem_seg': {'data': truth}, 'seg_logits': {'data': probability}}


def score(indices: list[int], length: int) -> tuple[dict, CamouflageMetric]:
    """Feed samples in batches of two to a fresh evaluator."""
    metric = CamouflageMetric()
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = {'classes': ('background', 'camouflaged object')}
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
