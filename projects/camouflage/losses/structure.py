"""The loss of the field: binary cross entropy and IoU, both heavier along the objects' edges."""

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.engine.errors import UserError


@MODELS.register_module()
class StructureLoss(nn.Module):
    """Weighted binary cross entropy plus weighted IoU, each per image, then the mean over the images.

    A pixel weighs ``w = 1 + 5 |m - y|``, m being the mean of the labels y in a window around it: most along edges and
    inside thin parts. ``sum(w bce) / sum(w)`` plus ``1 - (sum(w p y) + 1) / (sum(w (p + y - p y)) + 1)``. Neither an
    ignored pixel nor what lies outside the image counts in m; the publication pads with background there. Computed in
    float32 under autocast too.

    Args:
        window: Side of the window in pixels, odd. Default 31.
        edge_weight: The 5 above.
        loss_weight: Factor of the whole. Default 1.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.

    Raises:
        UserError: The window is not an odd positive number, or the network gives more than one logit.

    Source: Wei et al., F3Net, AAAI 2020, equations 5 to 8.
    """

    def __init__(self, window: int = 31, edge_weight: float = 5.0, loss_weight: float = 1.0,
                 loss_name: str = 'loss_structure') -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise UserError(f'StructureLoss: window: expected an odd positive number, found {window}')
        self.window = window
        self.edge_weight = edge_weight
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, cls_score: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int | None = 255,
                **kwargs) -> Tensor:
        """Return the loss, a scalar; an image without a labelled pixel adds zero, with zero gradients.

        Args:
            cls_score: Logits (N, 1, H, W).
            label: 0 or 1 (N, H, W).
            weight: Further factor of each pixel (N, H, W), or None.
            ignore_index: Label that does not count.
        """
        if cls_score.shape[1] != 1:
            raise UserError(f'StructureLoss: expected one logit a pixel (out_channels=1), found {cls_score.shape[1]}')
        score = cls_score.float().squeeze(1)
        counts = torch.ones_like(score)
        if ignore_index is not None:
            counts = (label != ignore_index).to(score.dtype)
        truth = label * counts
        pixel_weight = counts * (1 + self.edge_weight * (self._window_mean(truth, counts) - truth).abs())
        if weight is not None:
            pixel_weight = pixel_weight * weight

        entropy = F.binary_cross_entropy_with_logits(score, truth, reduction='none')
        total = pixel_weight.sum(dim=(1, 2))
        entropy = (pixel_weight * entropy).sum(dim=(1, 2)) / torch.where(total > 0, total, 1)
        probability = score.sigmoid()
        overlap = probability * truth
        union = (pixel_weight * (probability + truth - overlap)).sum(dim=(1, 2))
        iou = 1 - ((pixel_weight * overlap).sum(dim=(1, 2)) + 1) / (union + 1)
        return self.loss_weight * (entropy + iou).mean()

    def _window_mean(self, truth: Tensor, counts: Tensor) -> Tensor:
        """Average the labelled pixels of the window around every pixel; rows, then columns."""
        half = self.window // 2
        sums = torch.stack((truth, counts), dim=1)
        sums = F.avg_pool2d(sums, (self.window, 1), stride=1, padding=(half, 0))
        sums = F.avg_pool2d(sums, (1, self.window), stride=1, padding=(0, half))
        return sums[:, 0] / sums[:, 1].clamp_min(torch.finfo(sums.dtype).tiny)
