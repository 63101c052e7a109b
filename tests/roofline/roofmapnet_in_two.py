"""Train RoofMapNet's losses in two gloo processes, some images without lines; run by test_roofmapnet.py: OUT_DIR."""

import copy
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing

sys.path.insert(0, str(Path(__file__).parent))
from mmengine.model import MMDistributedDataParallel
from roof_networks import house, sample, small_roofmapnet

# Of each step, the halves of the batch: the second process has an image without lines, then no line at all.
STEPS = (((house(), house(3.3)), (house(1.7), None)), ((house(), house(3.3)), (None, None)))


def gradients(model, graphs: tuple, seed: int) -> dict[str, torch.Tensor | None]:
    """Return the gradients by name, of all six losses; the lines and the images are drawn by the seed."""
    model.zero_grad()
    torch.manual_seed(seed)
    losses = model(torch.randn(len(graphs), 3, 64, 64), [sample(graph) for graph in graphs], mode='loss')
    sum(losses.values()).backward()
    return {name.removeprefix('module.'): None if parameter.grad is None else parameter.grad.clone()
            for name, parameter in model.named_parameters()}


def work(rank: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2,
                                         timeout=timedelta(seconds=90))  # what hangs ends
    torch.set_num_threads(1)
    torch.manual_seed(0)
    alone = small_roofmapnet().train()
    # As projects.engine.distributed wraps a network without CUDA.
    together = MMDistributedDataParallel(copy.deepcopy(alone), broadcast_buffers=False, find_unused_parameters=False)
    told = [{'together': gradients(together, halves[rank], 10 * step + rank),
             'alone': gradients(alone, halves[rank], 10 * step + rank)} for step, halves in enumerate(STEPS)]
    torch.save(told, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    torch.set_num_threads(1)
    # Forked, so that the imports above are paid for once.
    torch.multiprocessing.start_processes(work, (sys.argv[1],), nprocs=2, start_method='fork')
