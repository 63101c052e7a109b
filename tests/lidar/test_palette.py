"""The colours of the classes can be told apart."""

import numpy as np

from projects.lidar.classes import BUILDING, IGNORE, LOD3
from projects.lidar.palette import BUILDING_COLOUR, GROUPS, IGNORE_COLOUR, LOD3_PALETTE, label_name, label_table


def lab(colours):
    """sRGB 0..255 to CIE Lab (D65)."""
    c = np.asarray(colours, float) / 255
    c = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    x = c @ np.array([[.4124, .3576, .1805], [.2126, .7152, .0722], [.0193, .1192, .9505]]).T / [.9505, 1, 1.089]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def test_no_two_colours_are_alike():
    values = lab([*LOD3_PALETTE, BUILDING_COLOUR, IGNORE_COLOUR])
    distance = np.linalg.norm(values[:, None] - values[None], axis=2) + 1e3 * np.eye(len(values))
    assert distance.min() > 15


def test_every_class_has_one_colour_and_one_group():
    assert len(LOD3_PALETTE) == 30 and sorted(name for group in GROUPS.values() for name in group) == sorted(LOD3)
    table = label_table()
    assert tuple(table[LOD3.index('water')]) == (40, 205, 225)
    assert tuple(table[BUILDING]) == BUILDING_COLOUR and tuple(table[IGNORE]) == IGNORE_COLOUR
    assert [label_name(label) for label in (0, 29, 30, 31, 255)] == [
        'wall_plain', 'other', 'building', 'ignored', 'ignored']
