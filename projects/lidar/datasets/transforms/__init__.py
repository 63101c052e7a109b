"""Pipeline transforms of points, registered in `mmseg.registry.TRANSFORMS`."""

from projects.lidar.datasets.transforms.colour import DropColour, VaryColour
from projects.lidar.datasets.transforms.geometry import JitterPoints, RotateAboutZ, ScalePoints
from projects.lidar.datasets.transforms.packing import PackPoints
from projects.lidar.datasets.transforms.selection import DropPoints, SamplePoints

__all__ = ['DropColour', 'DropPoints', 'JitterPoints', 'PackPoints', 'RotateAboutZ', 'SamplePoints', 'ScalePoints',
           'VaryColour']
