"""Pipeline transforms, registered in `mmseg.registry.TRANSFORMS`."""

from projects.camouflage.datasets.transforms.geometry import RandomRotation, ResizeImage
from projects.camouflage.datasets.transforms.loading import LoadCamouflageMask, LoadPhotograph

__all__ = ['LoadCamouflageMask', 'LoadPhotograph', 'RandomRotation', 'ResizeImage']
