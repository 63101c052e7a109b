"""Traceable forms of what mmseg's Swin Transformer computes from the sizes of its maps in plain Python.

While a network is traced, a Python number made from a shape becomes a constant of the graph, and the graph then holds
for one size only. These forms keep to tensor arithmetic; the numbers that they give are the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from mmseg.models.backbones.swin import ShiftWindowMSA
from mmseg.models.utils.embed import AdaptivePadding
from torch import Tensor


@contextmanager
def traceable_swin() -> Iterator[None]:
    """Replace the forward methods of :class:`ShiftWindowMSA` and :class:`AdaptivePadding` inside the block."""
    original = AdaptivePadding.forward

    def pad(self: AdaptivePadding, x: Tensor) -> Tensor:
        if self.kernel_size != self.stride or tuple(self.dilation) != (1, 1) or self.padding != 'corner':
            return original(self, x)
        height, width = x.shape[-2:]
        return F.pad(x, [0, -width % self.stride[1], 0, -height % self.stride[0]])

    with mock.patch.object(AdaptivePadding, 'forward', pad), \
            mock.patch.object(ShiftWindowMSA, 'forward', _shifted_window_attention):
        yield


def _shifted_window_attention(self: ShiftWindowMSA, query: Tensor, hw_shape: tuple) -> Tensor:
    """Attention inside windows of a map (N, H * W, C) that was rolled by half a window, and rolled back."""
    window, shift = self.window_size, self.shift_size
    height, width = hw_shape
    batch, channels = query.shape[0], query.shape[2]
    x = query.view(batch, height, width, channels)
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    mask = None
    if shift > 0:
        x = torch.roll(x, (-shift, -shift), (1, 2))
        mask = _mask(rows * window, columns * window, window, shift, x)
    # (N, rows * w, columns * w, C) -> (N * rows * columns, w * w, C)
    x = x.view(batch, rows, window, columns, window, channels).permute(0, 1, 3, 2, 4, 5)
    x = self.w_msa(x.reshape(-1, window * window, channels), mask=mask)
    x = x.view(batch, rows, columns, window, window, channels).permute(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, rows * window, columns * window, channels)
    if shift > 0:
        x = torch.roll(x, (shift, shift), (1, 2))
    x = x[:, :height, :width].reshape(batch, height * width, channels)
    return self.drop(x)


def _mask(height: int, width: int, window: int, shift: int, like: Tensor) -> Tensor:
    """Return (windows, w * w, w * w): -100 between cells that were no neighbours before the roll, else 0."""

    def part(side: int) -> Tensor:  # 0 before the last window, 1 in it, 2 in the rows that were rolled in
        position = torch.arange(side, device=like.device)
        return (position >= side - window).to(like.dtype) + (position >= side - shift).to(like.dtype)

    parts = 3 * part(height)[:, None] + part(width)[None, :]
    parts = parts.view(height // window, window, width // window, window).permute(0, 2, 1, 3)
    parts = parts.reshape(-1, window * window)
    return (parts[:, None, :] != parts[:, :, None]).to(like.dtype) * -100.0
