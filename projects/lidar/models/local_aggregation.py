"""What the neighbours of a point say of it: the largest of their features, moved to where they lie."""

import torch
from torch import Tensor, nn

from projects.lidar.models.gathering import gather_max


class LocalAggregation(nn.Module):
    """``max_j (W f_j + V (p_j - p_i) / r)`` over the neighbours j of a point i.

    The position term is linear, so it is added before the neighbours are read and subtracted once after:
    ``max_j (W f_j + V p_j / r) - V p_i / r``; nothing of size points x neighbours x channels is computed. Positions
    stay float32 under autocast: half precision would round them to decimetres.

    Args:
        in_channels: Width of f.
        out_channels: Width of the result.
        radius: r in metres, the length that offsets are measured in.

    Source: Qian et al., PointNeXt, NeurIPS 2022; Wu et al., PointConv's relative positions, CVPR 2019.
    """

    def __init__(self, in_channels: int, out_channels: int, radius: float) -> None:
        super().__init__()
        self.radius = radius
        self.features = nn.Linear(in_channels, out_channels)
        self.offsets = nn.Linear(3, out_channels, bias=False)

    def forward(self, x: Tensor, points: Tensor, index: Tensor, rows: int) -> Tensor:
        """Aggregate around the first ``rows`` points of every patch.

        Args:
            x: (B, N, in_channels).
            points: (B, N, 3) float32 metres.
            index: (B*rows, k) int64 rows of the flattened x.
            rows: M, at most N.

        Returns:
            (B, M, out_channels) in the type of the positions.
        """
        features = self.features(x)
        with torch.autocast(x.device.type, enabled=False):
            place = self.offsets(points / self.radius)  # (B, N, C)
            best = gather_max((place + features.to(place.dtype)).flatten(0, 1), index)
            return best.unflatten(0, (-1, rows)) - place[:, :rows]
