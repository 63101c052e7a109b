"""Colours of the LOD3 classes: a hue a group, a lightness and a warmth a member.

Walls are sand, roofs red, what stands on a roof violet, openings blue, what hangs on a façade yellow, the foot of a
building brown; ground is grey, vegetation green, water cyan. No two are closer than 15 in CIE Lab (a test measures it).
"""

import numpy as np

from projects.lidar.classes import BUILDING, IGNORE, LABELS, LOD3

Colour = tuple[int, int, int]  # red, green, blue, each 0..255

GROUPS: dict[str, dict[str, Colour]] = {
    'walls': dict(wall_plain=(236, 214, 176), wall_with_windows=(214, 178, 128), wall_with_door=(176, 136, 84)),
    'roofs': dict(roof_flat=(255, 160, 140), roof_gable=(226, 60, 48), roof_hip=(168, 22, 30),
                  roof_mansard=(240, 104, 84), roof_gambrel=(120, 10, 16)),
    'on the roof': dict(chimney=(84, 30, 110), dormer_gable=(200, 70, 200), dormer_shed=(240, 150, 235),
                        skylight=(150, 100, 255), roof_edge=(255, 90, 150)),
    'openings': dict(window=(60, 120, 230), door=(20, 60, 150), garage_door=(130, 175, 250),
                     basement_window=(90, 90, 190)),
    'on the façade': dict(balcony=(255, 205, 40), balustrade=(255, 240, 130), overhang=(230, 150, 20),
                          pillar=(190, 170, 30), cornice=(255, 180, 85)),
    'foot': dict(foundation=(100, 70, 45)),
    'ground': dict(ground=(165, 160, 155)),
    'vegetation': dict(vegetation_low=(160, 215, 90), vegetation_high=(30, 125, 50)),
    'water': dict(water=(40, 205, 225)),
    'objects': dict(vehicle=(0, 150, 136), street_furniture=(70, 200, 160), other=(95, 105, 115)),
}
_COLOURS = {name: colour for group in GROUPS.values() for name, colour in group.items()}

LOD3_PALETTE: tuple[Colour, ...] = tuple(_COLOURS[name] for name in LOD3)
BUILDING_COLOUR: Colour = (205, 92, 92)  # "some building part": real tiles have no more
IGNORE_COLOUR: Colour = (60, 60, 66)


def label_table() -> np.ndarray:
    """Return the colour of every label, ``(256, 3)`` uint8; what is no label is :data:`IGNORE_COLOUR`."""
    table = np.full((256, 3), IGNORE_COLOUR, np.uint8)
    table[:len(LOD3)] = LOD3_PALETTE
    table[BUILDING] = BUILDING_COLOUR
    return table


def label_name(label: int) -> str:
    """Return the name of a label: a LOD3 class, ``building``, or ``ignored``."""
    return 'ignored' if label == IGNORE or label >= len(LABELS) else LABELS[label]
