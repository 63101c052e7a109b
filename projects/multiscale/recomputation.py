"""Run a network so that the activations inside its blocks are computed again in backward instead of being kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks that a network is a sequence of: what a checkpoint each is put around.

    These are the elements of the lists of modules of one class that hold most of the parameters: residual blocks,
    transformer blocks. A network without such lists is one block itself.
    """
    blocks = [block for child in network.children() for block in _blocks(child)]
    return blocks if 2 * _parameters(blocks) > _parameters([network]) else [network]


def _blocks(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, (nn.Sequential, nn.ModuleList)) and len({type(element) for element in module}) == 1:
        first = next(iter(module))
        if any(True for _ in first.children()) and not isinstance(first, (nn.ModuleList, nn.ModuleDict)):
            return [block for element in module for block in repeated_blocks(element)]
    return [block for child in module.children() for block in _blocks(child)]


def _parameters(modules: list[nn.Module]) -> int:
    return sum({id(p): p.numel() for module in modules for p in module.parameters()}.values())


@contextmanager
def recomputed(blocks: list[nn.Module]) -> Iterator[None]:
    """Within the context, each call of one of the blocks keeps its input only (non-reentrant checkpoints).

    The recomputation has the random state, the autocast and the results of the first computation, and leaves running
    statistics alone: a batch counts once.
    """
    before = [block.__dict__.get('forward') for block in blocks]
    try:
        for block in blocks:
            block.forward = _checkpointed(block, block.forward)
        yield
    finally:
        for block, forward in zip(blocks, before):
            if forward is None:
                block.__dict__.pop('forward', None)
            else:
                block.forward = forward


def _checkpointed(block: nn.Module, forward: Callable) -> Callable:
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.training]

    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False, preserve_rng_state=True,
                          context_fn=lambda: (nullcontext(), _statistics_kept(norms)))

    return run


@contextmanager
def _statistics_kept(norms: list[_BatchNorm]) -> Iterator[None]:
    """Let batch norms run without taking the batch into their running statistics."""
    before = [(norm, norm.momentum, None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone())
              for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            if count is not None:
                norm.num_batches_tracked.copy_(count)
