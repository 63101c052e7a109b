import numpy as np

from projects.lidar.classes import IGNORE, LABEL_TO_COARSE, LOD3
from projects.lidar.scene_labels import OBJECT_LABELS, PART_LABELS, lod3_labels
from projects.scenes.objects import OBJECTS, PARTS


def _label(name: str, part: str = '', height: float = 0.0) -> str:
    number = PARTS.index(part) + 1 if part else 0
    label = int(lod3_labels(np.array([OBJECTS[name]], np.uint8), np.array([number], np.uint8), np.array([height]))[0])
    return 'ignore' if label == IGNORE else LOD3[label]


def test_every_part_and_object_of_the_scene_has_a_class():
    assert list(PART_LABELS) == list(PARTS) and set(OBJECT_LABELS) == set(OBJECTS)
    for part in PARTS:
        assert _label('car' if part.startswith('car') else 'building', part, 5.0) == (
            'vehicle' if part.startswith('car') else part)
    labels = lod3_labels(np.repeat(np.array([*OBJECTS.values()], np.uint8), 3), np.zeros(45, np.uint8),
                         np.tile([0.0, 0.7, 4.0], 15))
    assert (labels[:3] == IGNORE).all() and (labels[3:] < len(LOD3)).all()


def test_plants_are_told_from_the_ground_by_their_height():
    assert [_label('meadow', height=h) for h in (-0.1, 0.1, 0.3, 1.4, 1.6)] == [
        'ground', 'ground', 'vegetation_low', 'vegetation_low', 'vegetation_high']
    assert [_label('tree', height=h) for h in (0.1, 1.0, 9.0)] == ['vegetation_low', 'vegetation_low',
                                                                   'vegetation_high']
    assert _label('hedge', height=2.0) == 'vegetation_high' and _label('crop', height=0.8) == 'vegetation_low'
    assert _label('road', height=0.5) == 'ground' and _label('water', height=-0.7) == 'water'


def test_the_coarse_classes_are_those_of_the_scene():
    objects = np.array([OBJECTS[n] for n in ('building', 'road', 'tree', 'water', 'car')], np.uint8)
    parts = np.array([PARTS.index('window') + 1, 0, 0, 0, PARTS.index('car_glass') + 1], np.uint8)
    labels = lod3_labels(objects, parts, np.array([3.0, 0, 5, 0, 1]))
    assert LABEL_TO_COARSE[labels].tolist() == [0, 1, 3, 4, 5]
