"""Registers the LiDAR types; configs name this module in ``custom_imports``."""

from projects.lidar import datasets, losses, models  # noqa: F401
from projects.lidar.metrics import metric  # noqa: F401
