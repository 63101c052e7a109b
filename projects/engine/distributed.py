"""Several processes: gloo where there is no CUDA, running statistics that are equal, decisions taken together."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist
from torch import nn

from projects.engine.errors import Preempted, UserError


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
        _barrier()
    except Preempted:  # all ranks stop at the same iteration
        _barrier()
        raise
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def _barrier() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class Agreement:
    """What the ranks decide together, over a group of its own on the CPU: no device is waited for.

    Collective: all ranks make one, and call its methods the same number of times in the same order.
    """

    def __init__(self) -> None:
        self.group = dist.new_group(backend='gloo') if _several() else None
        self._under_way: tuple[Any, torch.Tensor] | None = None

    def any(self, flag: bool) -> bool:
        """Return whether any rank had its flag up: in this call for one process, in the last call for several.

        The message travels while the next iteration runs, so that asking costs next to nothing.
        """
        if self.group is None:
            return flag
        before = self._under_way
        told = torch.tensor([float(flag)])
        self._under_way = (dist.all_reduce(told, group=self.group, async_op=True), told)
        if before is None:
            return False
        before[0].wait()
        return bool(before[1])

    def same(self, value: float) -> bool:
        """Return whether a number is the same on all ranks."""
        if self.group is None:
            return True
        found = torch.tensor([value, -value], dtype=torch.float64)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group)
        return bool(found[0] == -found[1])

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value on all ranks."""
        if self.group is None:
            return value
        found = [value]
        dist.broadcast_object_list(found, src=0, group=self.group)
        return found[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all ranks on rank 0, and None on the others."""
        if self.group is None:
            return [value]
        found = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(value, found, dst=0, group=self.group)
        return found

    def finish(self) -> None:
        """Wait for the message under way, so that the group can be left."""
        if self._under_way is not None:
            self._under_way[0].wait()
            self._under_way = None


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
    if not _several():
        return
    buffers = _running_statistics(model)
    if not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for buffer, part in zip(buffers, flat.split([buffer.numel() for buffer in buffers])):
        buffer.copy_(part.view_as(buffer))


def _running_statistics(model: nn.Module) -> list[torch.Tensor]:
    return [buffer for name, buffer in model.named_buffers() if name.endswith(('running_mean', 'running_var'))]


@torch.no_grad()
def own_statistics(models: Sequence[nn.Module]) -> list[torch.Tensor]:
    """Return copies of this rank's running means and variances, on the CPU; none where there is one process."""
    if not _several():
        return []
    return [buffer.detach().cpu().clone() for model in models for buffer in _running_statistics(model)]


@torch.no_grad()
def set_own_statistics(models: Sequence[nn.Module], values: Sequence[torch.Tensor]) -> None:
    """Put back what :func:`own_statistics` returned."""
    if values:
        for buffer, value in zip((b for model in models for b in _running_statistics(model)), values, strict=True):
            buffer.copy_(value)
