"""Cross entropy and Dice as one term."""

from collections.abc import Sequence

from mmseg.registry import MODELS
from torch import Tensor, nn

from projects.landcover.losses.present_dice import PresentDiceLoss
from projects.landcover.losses.soft_cross_entropy import SoftCrossEntropyLoss


@MODELS.register_module()
class JointLoss(nn.Module):
    """``ce_weight * SoftCrossEntropyLoss + dice_weight * PresentDiceLoss``, logged as one number.

    To log both terms, list the two losses in ``loss_decode`` instead, as the base configs do: their sum is the same.

    Args:
        ce_weight: Factor of the cross entropy. Default 1.
        dice_weight: Factor of the Dice loss. Default 1.
        smoothing: Label smoothing of the cross entropy. Default 0.05.
        smooth: Smoothing constant of Dice. Default 0.05.
        class_weight: Factor of each class in both terms, or None.
        loss_weight: Factor of the sum.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.
    """

    def __init__(self, ce_weight: float = 1.0, dice_weight: float = 1.0, smoothing: float = 0.05, smooth: float = 0.05,
                 class_weight: Sequence[float] | None = None, loss_weight: float = 1.0,
                 loss_name: str = 'loss_joint') -> None:
        super().__init__()
        self.cross_entropy = SoftCrossEntropyLoss(smoothing, class_weight, ce_weight)
        self.dice = PresentDiceLoss(smooth, class_weight, dice_weight)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(self, pred: Tensor, label: Tensor, weight: Tensor | None = None, ignore_index: int | None = 255,
                **kwargs) -> Tensor:
        """Return the loss, a scalar. Arguments as for the two losses."""
        return self.loss_weight * (self.cross_entropy(pred, label, weight, ignore_index)
                                   + self.dice(pred, label, weight, ignore_index))
