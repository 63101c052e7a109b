"""Logits of a network as rows of points, for the losses."""

from torch import Tensor

from projects.engine.errors import UserError
from projects.lidar.classes import LOD3


def leaf_scores(cls_score: Tensor, loss: str) -> Tensor:
    """Return logits (B, 30, N) as (B*N, 30) float32, under autocast too.

    Args:
        cls_score: Logits (B, 30, N).
        loss: Who asks, for messages.

    Raises:
        UserError: The logits are not of LOD3.
    """
    if cls_score.shape[1] != len(LOD3):
        raise UserError(f'{loss}: expected logits of {len(LOD3)} classes, found {cls_score.shape[1]}')
    return cls_score.float().movedim(1, -1).flatten(0, -2)
