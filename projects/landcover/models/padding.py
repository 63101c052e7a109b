"""Reflect padding of maps of any size, also of maps smaller than the padding."""

import torch
import torch.nn.functional as F
from torch import Tensor


def reflect_pad(x: Tensor, right: int, bottom: int) -> Tensor:
    """Pad a map at its right and lower border by reflection (the border pixel is not repeated).

    ``torch.nn.functional.pad`` refuses a reflection as large as the map. Here the reflection goes back and forth as
    often as needed, like ``numpy.pad(mode='reflect')``; a side of one pixel is repeated.

    Args:
        x: Map of shape (N, C, H, W).
        right: Columns to add, >= 0.
        bottom: Rows to add, >= 0.

    Returns:
        Map of shape (N, C, H + bottom, W + right).
    """
    if torch.onnx.is_in_onnx_export():  # any branch below would hold for the traced size only
        height, width = x.shape[-2:]
        return x.index_select(-2, _reflected(height, bottom, x.device)).index_select(
            -1, _reflected(width, right, x.device))
    if right == 0 and bottom == 0:
        return x
    height, width = x.shape[-2:]
    if right < width and bottom < height:
        return F.pad(x, (0, right, 0, bottom), mode='reflect')
    if bottom:
        x = x.index_select(-2, _reflected(height, bottom, x.device))
    if right:
        x = x.index_select(-1, _reflected(width, right, x.device))
    return x


def _reflected(size: int, extra: int, device: torch.device) -> Tensor:
    """Return the source index of each of ``size + extra`` positions along one side."""
    period = 2 * (size - 1) + (size == 1) * 1
    position = torch.arange(size + extra, device=device) % period
    return torch.minimum(position, period - position)
