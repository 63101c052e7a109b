"""Several processes: gloo where there is no CUDA, and running statistics that are equal on all ranks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist
from torch import nn

from projects.engine.errors import UserError


def start_processes(config: Config, launcher: str) -> None:
    """Join the process group that the launcher made, before MMEngine assumes CUDA.

    Without CUDA the backend is gloo and the model is wrapped without device ids.

    Raises:
        UserError: The launcher's environment variables are missing.
    """
    config.launcher = launcher
    if launcher == 'none' or (dist.is_available() and dist.is_initialized()):
        return
    if launcher == 'pytorch' and 'LOCAL_RANK' not in os.environ:
        raise UserError('--launcher pytorch: RANK and LOCAL_RANK are not set; start with tools/dist_train.sh or '
                        'torchrun')
    if torch.cuda.is_available():
        init_dist(launcher, **config.get('env_cfg', {}).get('dist_cfg', dict(backend='nccl')))
        return
    if launcher == 'slurm':
        _slurm_environment()
    dist.init_process_group('gloo')
    config.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=bool(config.get('find_unused_parameters', False)))


@contextmanager
def leaving_together() -> Iterator[None]:
    """End the process group when the body ends: wait for all ranks when it ended well, and free it in any case.

    A rank that exits while its peers still talk to it aborts them now and then.
    """
    try:
        yield
        if dist.is_available() and dist.is_initialized():
            dist.barrier()
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def _slurm_environment() -> None:
    try:
        os.environ['RANK'] = os.environ['SLURM_PROCID']
        os.environ['LOCAL_RANK'] = os.environ['SLURM_LOCALID']
        os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    except KeyError as error:
        raise UserError(f'--launcher slurm: {error.args[0]} is not set; start with srun or tools/slurm_train.sh'
                        ) from error
    if 'MASTER_ADDR' not in os.environ:
        nodes = os.environ.get('SLURM_JOB_NODELIST', '127.0.0.1')
        if int(os.environ.get('SLURM_NNODES', '1')) > 1:
            raise UserError(f'--launcher slurm: MASTER_ADDR is not set and the job spans several nodes ({nodes}); '
                            'start with tools/slurm_train.sh')
        os.environ['MASTER_ADDR'] = '127.0.0.1'
    os.environ.setdefault('MASTER_PORT', '29500')


@torch.no_grad()
def synchronise_buffers(model: nn.Module) -> None:
    """Average the running means and variances of all norms over the ranks, in one message.

    Collective: all ranks must call it. Without several processes it does nothing.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    buffers = [buffer for name, buffer in model.named_buffers() if name.endswith(('running_mean', 'running_var'))]
    if not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for buffer, part in zip(buffers, flat.split([buffer.numel() for buffer in buffers])):
        buffer.copy_(part.view_as(buffer))
