"""Pipeline transforms, registered in `mmseg.registry.TRANSFORMS`."""

from projects.landcover.datasets.transforms.geometry import RandomFlips, RandomScale, SmartCrop
from projects.landcover.datasets.transforms.loading import LoadIndexMask, LoadRasterImage
from projects.landcover.datasets.transforms.mosaic import Mosaic
from projects.landcover.datasets.transforms.photometry import BrightnessContrast

__all__ = [
    'BrightnessContrast',
    'LoadIndexMask',
    'LoadRasterImage',
    'Mosaic',
    'RandomFlips',
    'RandomScale',
    'SmartCrop',
]
