"""Multiply-accumulate operations of a network, counted where they run."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

NOT_COUNTED = ('counted: convolutions, matrix products, attention; not counted: norms, activations, softmax, resizing, '
               'pooling, sums')


class MacCounter:
    """Count the multiply-accumulates that run within the context, forward and backward alike.

    Torch's ``FlopCounterMode`` sees every operator that is dispatched, so that functional calls, recomputation and
    backward are counted too; counters that trace a graph (``mmengine.analysis``) count attention as nothing. Torch's
    own table lacks the attention kernel of the CPU and takes the gradient of grouped weights for that of full ones;
    both are put right here. The fused fast path of
    ``nn.MultiheadAttention``, which it cannot see into, is switched off within the context. See :data:`NOT_COUNTED`.
    """

    def __init__(self) -> None:
        aten = torch.ops.aten
        kernels = {'convolution_backward': _convolution_backward,
                   '_scaled_dot_product_flash_attention_for_cpu': _attention,
                   '_scaled_dot_product_flash_attention_for_cpu_backward': _attention_backward}
        self._mode = FlopCounterMode(
            display=False, custom_mapping={getattr(aten, name): count for name, count in kernels.items()})
        self._fast_path = False

    @property
    def macs(self) -> int:
        """What has been counted so far."""
        return self._mode.get_total_flops() // 2

    def __enter__(self) -> 'MacCounter':
        self._fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)
        torch.backends.mha.set_fastpath_enabled(self._fast_path)


def _convolution_backward(gradient: Sequence[int], x: Sequence[int], weight: Sequence[int], bias: Any, stride: Any,
                          padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int,
                          wanted: Sequence[bool], *args: Any, **kwargs: Any) -> int:
    """Return the operations of a convolution's gradients of input and weight: each as many as the forward's."""
    forward = 2 * gradient[0] * math.prod((x if transposed else gradient)[2:]) * math.prod(weight)
    return forward * (bool(wanted[0]) + bool(wanted[1]))


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Return the operations of attention by shapes (N, heads, L, D), (N, heads, S, D), (N, heads, S, D')."""
    number, heads, length, width = query
    return 2 * number * heads * length * key[-2] * (width + value[-1])


def _attention_backward(gradient: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int],
                        *args: Any, **kwargs: Any) -> int:
    """Return those of its backward: the scores again, and two products for each of the forward's two."""
    number, heads, length, width = query
    return 2 * number * heads * length * key[-2] * (3 * width + 2 * value[-1])
