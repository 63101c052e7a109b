"""Networks of the LiDAR room."""

from projects.lidar.models.hybrid_point_net import HybridPointNet
from projects.lidar.models.lidar_point_head import LidarPointHead
from projects.lidar.models.point_preprocessor import PointPreprocessor
from projects.lidar.models.point_segmentor import PointSegmentor
from projects.lidar.models.randla_point_net import RandLAPointNet
from projects.lidar.models.scale_experts import ScaleExperts

__all__ = ['HybridPointNet', 'LidarPointHead', 'PointPreprocessor', 'PointSegmentor', 'RandLAPointNet', 'ScaleExperts']
