"""Data sets and pipeline transforms of the land-cover room."""

from projects.landcover.datasets import transforms as transforms
from projects.landcover.datasets.landcover import LandCoverDataset

__all__ = ['LandCoverDataset', 'transforms']
