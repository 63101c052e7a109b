"""Data sets and pipeline transforms of the roof-line room."""

from projects.roofline.datasets import transforms as transforms
from projects.roofline.datasets.roofline import RooflineDataset

__all__ = ['RooflineDataset', 'transforms']
