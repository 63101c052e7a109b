"""LOD3 labels of the points of a generated scene, from the object and the part that each one lies on.

The scene has a vocabulary of its own; this is the only place that knows both. Parts carry the names of their LOD3
classes, but for those of cars. Plants are told from the ground that they stand on by their height, as in real tiles:
up to 1.5 m a person looks over them (classes.ASPRS puts codes 3 and 4 together).
"""

import numpy as np

from projects.lidar.classes import IGNORE, LOD3
from projects.scenes.objects import OBJECTS, PARTS

BARE = 0.2  # metres: what stays below is the ground, in grass and crops as well
LOW = 1.5  # metres: plants above it are high vegetation

PART_LABELS: dict[str, str] = {part: 'vehicle' if part.startswith('car_') else part for part in PARTS}
# What an object without parts is; height decides about `plants` (with ground below them) and `leaves` (without)
OBJECT_LABELS: dict[str, str] = {
    'bare_ground': 'ground', 'bare_field': 'ground', 'road': 'ground', 'path': 'ground', 'courtyard': 'ground',
    'meadow': 'plants', 'semi_natural_grass': 'plants', 'crop': 'plants', 'garden': 'plants',
    'tree': 'leaves', 'hedge': 'leaves', 'water': 'water', 'car': 'vehicle', 'building': 'other', 'unknown': 'nothing'}

_GROUND, _LOW, _HIGH = (LOD3.index(name) for name in ('ground', 'vegetation_low', 'vegetation_high'))
_OF_PART = np.array([IGNORE, *(LOD3.index(PART_LABELS[part]) for part in PARTS)], np.uint8)
_PLANTS, _LEAVES = 100, 101
_CODES = {'plants': _PLANTS, 'leaves': _LEAVES, 'nothing': IGNORE, **{name: k for k, name in enumerate(LOD3)}}
_OF_OBJECT = np.array([_CODES[OBJECT_LABELS[name]] for name in OBJECTS], np.uint8)


def lod3_labels(objects: np.ndarray, parts: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return LOD3 indices (N,) uint8, 255 for points of nothing (birds, echoes).

    Args:
        objects: (N,) ids of scenes.objects.OBJECTS.
        parts: (N,) index into scenes.objects.PARTS + 1, 0 where the object has no parts.
        height: (N,) metres above the terrain.
    """
    label = np.where(parts > 0, _OF_PART[parts], _OF_OBJECT[objects])
    plants = np.where(height < LOW, np.uint8(_LOW), np.uint8(_HIGH))
    label = np.where(label == _LEAVES, plants, label)
    return np.where(label == _PLANTS, np.where(height < BARE, np.uint8(_GROUND), plants), label)
