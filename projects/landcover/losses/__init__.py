"""Losses of the land-cover room."""

from projects.landcover.losses.joint import JointLoss
from projects.landcover.losses.present_dice import PresentDiceLoss
from projects.landcover.losses.soft_cross_entropy import SoftCrossEntropyLoss

__all__ = ['JointLoss', 'PresentDiceLoss', 'SoftCrossEntropyLoss']
