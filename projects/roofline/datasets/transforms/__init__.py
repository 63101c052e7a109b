"""Pipeline transforms of images with roof graphs, registered in `mmseg.registry.TRANSFORMS`."""

from projects.roofline.datasets.transforms.assuming import AssumeVisible
from projects.roofline.datasets.transforms.cropping import RandomRoofCrop
from projects.roofline.datasets.transforms.letterbox import LetterboxRoof
from projects.roofline.datasets.transforms.loading import LoadRoofImage
from projects.roofline.datasets.transforms.occluding import PasteOccluders
from projects.roofline.datasets.transforms.packing import PackRoofline
from projects.roofline.datasets.transforms.turning import RandomQuarterTurn, RandomRoofFlip, RandomRoofRotation

__all__ = ['AssumeVisible', 'LetterboxRoof', 'LoadRoofImage', 'PackRoofline', 'PasteOccluders', 'RandomQuarterTurn',
           'RandomRoofCrop', 'RandomRoofFlip', 'RandomRoofRotation']
