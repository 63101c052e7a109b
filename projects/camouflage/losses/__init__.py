"""Losses of the camouflage room."""

from projects.camouflage.losses.structure import StructureLoss
from projects.camouflage.losses.uncertainty_aware import UncertaintyAwareLoss

__all__ = ['StructureLoss', 'UncertaintyAwareLoss']
