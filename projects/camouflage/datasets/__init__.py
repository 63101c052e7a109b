"""Data sets and pipeline transforms of the camouflage room."""

from projects.camouflage.datasets import transforms as transforms
from projects.camouflage.datasets.camouflage import CamouflageDataset

__all__ = ['CamouflageDataset', 'transforms']
