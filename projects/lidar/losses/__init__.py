"""Losses of the LiDAR room."""

from projects.lidar.losses.hierarchical_cross_entropy import HierarchicalCrossEntropy
from projects.lidar.losses.point_lovasz import PointLovasz

__all__ = ['HierarchicalCrossEntropy', 'PointLovasz']
