"""Junctions of a batch, read from the junction and offset maps."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Junctions(NamedTuple):
    """The K best junctions of each image, best first; the places of an image with fewer are not valid.

    yx: (B, K, 2) float, cells (y, x), corner origin. score: (B, K) float 0..1. type: (B, K) int64. valid: (B, K) bool.
    """

    yx: Tensor
    score: Tensor
    type: Tensor
    valid: Tensor


@torch.no_grad()
def find_junctions(jmap: Tensor, joff: Tensor, limit: int = 300, threshold: float = 0.008) -> Junctions:
    """Local maxima of the junction map, moved by the offsets; all images at once.

    A cell is of its most probable type, and a junction where no neighbour (3x3) is more probable: equal neighbours are
    both kept, so that maps drawn from a graph give back junctions in adjacent cells. Widened to single precision first.

    Args:
        jmap: (B, T, h, w) probability of a junction of each type.
        joff: (B, T, 2, h, w) offset (dy, dx) from the cell's centre in [-1/2, 1/2].
        limit: K, the largest number of junctions an image.
        threshold: A junction's score is above this.

    Returns:
        The junctions; K = min(limit, h w).
    """
    size, width = jmap.shape[-2:], jmap.shape[-1]
    probability, kind = jmap.float().max(1)  # (B, h, w)
    peaks = probability * (F.max_pool2d(probability[:, None], 3, 1, 1)[:, 0] == probability)
    score, cell = peaks.flatten(1).topk(min(limit, size.numel()), 1)  # (B, K)
    kind = kind.flatten(1).gather(1, cell)
    flat = joff.flatten(3)  # (B, T, 2, h w)
    image = torch.arange(len(jmap), device=jmap.device)[:, None]
    offset = flat[image, kind, :, cell].float()  # (B, K, 2)
    corner = torch.stack((torch.div(cell, width, rounding_mode='floor'), cell % width), -1)
    return Junctions(corner + offset + 0.5, score, kind, score > threshold)
