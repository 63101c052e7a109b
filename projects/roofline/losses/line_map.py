"""lhr: the line map."""

from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class LineMapLoss(nn.Module):
    """Binary cross entropy with logits against the antialiased line map, mean over all cells.

    Its minimum is where the sigmoid is the map, greys included. An image without lines counts as any other. Computed
    in float32 under autocast too.

    Args:
        loss_weight: Factor of the whole. Default 1.

    Source: specs/roofline.md, "The six losses"; Zhou et al., End-to-End Wireframe Parsing (L-CNN), ICCV 2019.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, lmap: Tensor) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: Of a line through each cell (B, h, w).
            lmap: The drawn lines, 0..1 (B, h, w).
        """
        return self.loss_weight * F.binary_cross_entropy_with_logits(logits.float(), lmap.float())
