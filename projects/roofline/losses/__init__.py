"""Losses of the roof-line room: the six of the recipe, and the Gaussian that the first of them looks at."""

from projects.roofline.losses.calibration import CalibrationLoss
from projects.roofline.losses.focal_gaussian import FocalGaussianLoss
from projects.roofline.losses.gaussian_target import GaussianTarget
from projects.roofline.losses.junction_offset import JunctionOffsetLoss
from projects.roofline.losses.line_map import LineMapLoss
from projects.roofline.losses.line_verification import LineVerificationLoss
from projects.roofline.losses.occlusion import OcclusionLoss

__all__ = ['CalibrationLoss', 'FocalGaussianLoss', 'GaussianTarget', 'JunctionOffsetLoss', 'LineMapLoss',
           'LineVerificationLoss', 'OcclusionLoss']
