"""Score a test's samples in two gloo processes: TEST_FILE OUT_DIR LENGTH; see the fixture `scored_by_two`."""

import importlib
import json
import sys
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from mmengine.dataset import DefaultSampler


def work(rank: int, score, folder: str, length: int) -> None:
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    found = []
    for shuffle in (False, True):
        indices = list(DefaultSampler(range(length), shuffle=shuffle, seed=3))
        found.append([indices, score(indices, length)])
    Path(folder, f'rank{rank}.json').write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    torch.set_num_threads(1)
    test, folder, length = sys.argv[1:]
    sys.path.insert(0, str(Path(test).parent))
    score = importlib.import_module(Path(test).stem).score_numbered
    # Forked, so that the imports are paid for once.
    torch.multiprocessing.start_processes(work, (score, folder, int(length)), nprocs=2, start_method='fork')
