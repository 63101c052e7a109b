"""qcc: the calibrated junction map, which is what the detector reads."""

from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class CalibrationLoss(nn.Module):
    """Cross entropy of (background, junction) logits against the binary junction map, mean over all cells.

    Called once for every stack. Its minimum is where the softmax is the junction map. An image without junctions
    counts as any other: all of it is background. Computed in float32 under autocast too.

    Args:
        loss_weight: Factor of the whole. Default 1.

    Source: specs/roofline.md, "The six losses"; Zhou et al., End-to-End Wireframe Parsing (L-CNN), ICCV 2019.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, jmap: Tensor) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: Background and junction (B, T, 2, h, w).
            jmap: 1 at the cells of junctions, 0 elsewhere (B, T, h, w).
        """
        logits = logits.float().transpose(1, 2)  # (B, 2, T, h, w)
        return self.loss_weight * F.cross_entropy(logits, (jmap > 0.5).long())
