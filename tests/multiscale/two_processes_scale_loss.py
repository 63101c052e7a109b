"""Train with the scale loss on, then off, in two gloo processes; run by test_multiscale_segmentor.py: OUT_DIR."""

import sys
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing

sys.path.insert(0, str(Path(__file__).parent))
import scale_networks
from mmengine.model import MMDistributedDataParallel

STEPS = (0.3, 0.3, 0.0, 0.0, 0.3)  # weights of the scale loss


def train(model, inner, rank: int, world: int) -> list[dict]:
    """Take a step for each weight; every process has images of its own."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    told = []
    for step, weight in enumerate(STEPS):
        inner.scale_loss.loss_weight = weight
        parts = [scale_networks.batch(2, seed=10 * step + part) for part in range(2)]
        parts = parts if world == 1 else [parts[rank]]
        optimizer.zero_grad()
        inputs, samples = torch.cat([images for images, _ in parts]), [one for _, some in parts for one in some]
        losses = model(inputs, samples, mode='loss')
        loss, _ = inner.parse_losses(losses)
        loss.backward()
        told.append({'without': [name for name, p in inner.named_parameters() if p.grad is None],
                     'heads': sum(float(p.grad.abs().sum()) for p in inner.scale_heads.parameters()),
                     'loss_scale': float(losses['loss_scale'])})
        optimizer.step()
    return told


def work(rank: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    torch.set_num_threads(1)
    inner = scale_networks.build(seed=rank)  # DDP gives the second process the weights of the first
    model = MMDistributedDataParallel(inner, find_unused_parameters=False)
    told = train(model, inner, rank, 2)
    torch.save({'told': told, 'state_dict': inner.state_dict()}, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    torch.multiprocessing.start_processes(work, (sys.argv[1],), nprocs=2, start_method='fork')
