"""Two gloo processes agree on running statistics."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from torch import nn

from projects.engine.distributed import start_processes, synchronise_buffers
from projects.engine.errors import UserError


def _average(rank, store, results):
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    norm = nn.BatchNorm2d(3)
    norm.running_mean.fill_(float(rank))
    norm.running_var.fill_(1.0 + 2 * rank)
    norm.num_batches_tracked.fill_(7)
    synchronise_buffers(norm)
    torch.save({key: value.clone() for key, value in norm.state_dict().items()}, f'{results}/{rank}.pt')
    dist.destroy_process_group()


def test_buffers_are_averaged_over_ranks(tmp_path):
    mp.start_processes(_average, (str(tmp_path / 'store'), str(tmp_path)), nprocs=2, start_method='spawn')
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1))
    assert first['running_mean'].tolist() == [0.5] * 3 and first['running_var'].tolist() == [2.0] * 3
    assert first['num_batches_tracked'] == 7
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_alone_nothing_happens():
    norm = nn.BatchNorm2d(1)
    synchronise_buffers(norm)
    assert norm.running_mean.item() == 0.0


def test_a_launcher_without_its_environment(monkeypatch):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    for launcher, variable in (('pytorch', 'LOCAL_RANK'), ('slurm', 'SLURM_PROCID')):
        with pytest.raises(UserError, match=variable):
            start_processes(Config(dict()), launcher)
