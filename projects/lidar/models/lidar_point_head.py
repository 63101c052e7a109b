"""From a point's features to its classes."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError
from projects.lidar.classes import IGNORE, LOD3


@MODELS.register_module()
class LidarPointHead(BaseModule):
    """Dropout, a linear layer, and the losses.

    Args:
        in_channels: Width of the features; :class:`PointSegmentor` fills it in from the backbone.
        num_classes: Default 30 (``LOD3``).
        dropout_ratio: 0..1. Default 0.
        loss_decode: Config of one loss or several. Default :class:`HierarchicalCrossEntropy`.
        ignore_index: Label that does not count. Default 255.
        init_cfg: As for every mmengine module.

    Raises:
        UserError: No ``in_channels``.
    """

    def __init__(self, in_channels: int | None = None, num_classes: int = len(LOD3), dropout_ratio: float = 0.0,
                 loss_decode: dict | Sequence[dict] | None = None, ignore_index: int = IGNORE,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if not in_channels:
            raise UserError(f'LidarPointHead: in_channels: expected the width of the features, found {in_channels}')
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.dropout = nn.Dropout(dropout_ratio)
        self.classify = nn.Linear(in_channels, num_classes)
        losses = loss_decode or dict(type='HierarchicalCrossEntropy')
        self.loss_decode = nn.ModuleList(
            MODELS.build(loss) for loss in ([losses] if isinstance(losses, dict) else losses))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, N, C) to logits (B, num_classes, N)."""
        return self.classify(self.dropout(x)).transpose(1, 2)

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return named losses of logits (B, num_classes, N) and labels (B, N), and the accuracy of leaf labels in %."""
        losses: dict[str, Tensor] = {}
        for loss in self.loss_decode:
            value = loss(logits, labels, ignore_index=self.ignore_index)
            losses[loss.loss_name] = losses[loss.loss_name] + value if loss.loss_name in losses else value
        with torch.no_grad():
            known = labels < self.num_classes
            right = (logits.argmax(1) == labels) & known
            losses['acc_seg'] = 100 * right.sum() / known.sum().clamp_min(1)
        return losses
