"""One class from probabilities: the sum decides what a point is, the largest leaf which part."""

import numpy as np

from projects.lidar.classes import LOD3
from projects.lidar.decision import decide


def test_a_building_spread_over_its_parts_beats_a_single_class():
    probabilities = np.zeros((3, len(LOD3)), np.float32)
    ground, wall, roof, high = (LOD3.index(name) for name in ('ground', 'wall_plain', 'roof_gable', 'vegetation_high'))
    probabilities[0, :23], probabilities[0, ground], probabilities[0, roof] = 0.02, 0.3, 0.26
    probabilities[1, [wall, ground, high]] = 0.3, 0.4, 0.3
    probabilities[2, [ground, high]] = 0.5, 0.5
    assert decide(probabilities).tolist() == [roof, ground, ground]  # of equals the first


def test_other_numbers_of_classes_have_no_groups():
    assert decide(np.array([[0.2, 0.5, 0.3]])).tolist() == [1]
