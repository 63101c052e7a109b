"""Data set, pipeline transforms, batches and collate function of the LiDAR room."""

from projects.lidar.datasets import transforms as transforms
from projects.lidar.datasets.collate import collate_points
from projects.lidar.datasets.patches import LidarPatchDataset
from projects.lidar.datasets.point_budget import PointBudgetBatchSampler

__all__ = ['LidarPatchDataset', 'PointBudgetBatchSampler', 'collate_points', 'transforms']
