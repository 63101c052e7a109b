"""What a point can be: LOD3 and LOD2 classes, the coarse classes of real tiles, and ASPRS codes on their way to both.

Real tiles carry ASPRS codes only. What such a code knows is a *set* of LOD3 classes: ground is one, building is any of
its 23 parts. Labels in a store are therefore LOD3 indices, :data:`BUILDING` for "some building part", or
:data:`IGNORE` (specs/lidar.md, Labels).
"""

from collections.abc import Mapping

import numpy as np

from projects.engine.errors import UserError

LOD3: tuple[str, ...] = (
    'wall_plain', 'wall_with_windows', 'wall_with_door', 'roof_flat', 'roof_gable', 'roof_hip', 'roof_mansard',
    'roof_gambrel', 'chimney', 'dormer_gable', 'dormer_shed', 'skylight', 'roof_edge', 'window', 'door', 'garage_door',
    'balcony', 'balustrade', 'overhang', 'pillar', 'cornice', 'foundation', 'basement_window', 'ground',
    'vegetation_low', 'vegetation_high', 'water', 'vehicle', 'street_furniture', 'other')
LOD2: tuple[str, ...] = (
    'wall', 'roof_flat', 'roof_gable', 'roof_hip', 'chimney', 'dormer', 'balcony', 'overhang', 'foundation', 'ground',
    'vegetation_low', 'vegetation_high', 'water', 'vehicle', 'other')
# What ASPRS codes can tell apart; scores on real tiles are taken over these.
COARSE: tuple[str, ...] = ('building', 'ground', 'vegetation_low', 'vegetation_high', 'water', 'other')

BUILDING = len(LOD3)  # the label "some building part"
IGNORE = 255
LABELS: tuple[str, ...] = (*LOD3, 'building')  # names of all labels but IGNORE
BUILDING_PARTS: tuple[int, ...] = tuple(range(LOD3.index('ground')))

_GROUND, _LOW, _HIGH, _WATER, _OTHER = (
    LOD3.index(name) for name in ('ground', 'vegetation_low', 'vegetation_high', 'water', 'other'))

# ASPRS 0-18 and IGN's 64-67 as labels. Medium vegetation (4: 0.5 to 1.5 m in LiDAR HD) is low: a person looks over it.
# Unclassified points (0, 1) may be anything, vehicles among them: no label.
ASPRS: dict[int, int] = {
    0: IGNORE, 1: IGNORE, 2: _GROUND, 3: _LOW, 4: _LOW, 5: _HIGH, 6: BUILDING, 7: IGNORE, 8: _GROUND, 9: _WATER,
    10: _OTHER, 11: _GROUND, 12: IGNORE, 13: _OTHER, 14: _OTHER, 15: _OTHER, 16: _OTHER, 17: _OTHER, 18: IGNORE,
    64: _OTHER, 65: IGNORE, 66: IGNORE, 67: BUILDING}

_TO_LOD2 = {
    **dict.fromkeys(('wall_plain', 'wall_with_windows', 'wall_with_door', 'window', 'door', 'garage_door', 'pillar',
                     'basement_window'), 'wall'),
    'roof_flat': 'roof_flat', 'roof_gable': 'roof_gable', 'roof_hip': 'roof_hip', 'roof_mansard': 'roof_hip',
    'roof_gambrel': 'roof_gable', 'chimney': 'chimney', 'dormer_gable': 'dormer', 'dormer_shed': 'dormer',
    'skylight': 'roof_flat', 'balcony': 'balcony', 'balustrade': 'balcony',
    **dict.fromkeys(('roof_edge', 'overhang', 'cornice'), 'overhang'), 'foundation': 'foundation',
    'ground': 'ground', 'vegetation_low': 'vegetation_low', 'vegetation_high': 'vegetation_high', 'water': 'water',
    'vehicle': 'vehicle', 'street_furniture': 'other', 'other': 'other'}


def _table(pairs: Mapping[int, int]) -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    for source, target in pairs.items():
        table[source] = target
    return table


# Look-up tables (256,) uint8: label -> LOD2 index, label -> COARSE index. A table of LOD2 has no "some building part".
LOD3_TO_LOD2 = _table({LOD3.index(name): LOD2.index(to) for name, to in _TO_LOD2.items()})
LABEL_TO_COARSE = _table({**dict.fromkeys((*BUILDING_PARTS, BUILDING), 0), **{
    LOD3.index(name): COARSE.index(name if name in COARSE else 'other') for name in LOD3[len(BUILDING_PARTS):]}})


def candidates() -> np.ndarray:
    """Return which LOD3 classes each label leaves open, ``(31, 30)`` bool; rows are :data:`LABELS`."""
    table = np.zeros((len(LABELS), len(LOD3)), bool)
    table[np.arange(len(LOD3)), np.arange(len(LOD3))] = True
    table[BUILDING, list(BUILDING_PARTS)] = True
    return table


def labels_of_codes(codes: np.ndarray, where: str, mapping: Mapping[int, int] | None = None,
                    unknown: str = 'refuse') -> np.ndarray:
    """Turn ASPRS classification codes ``(N,)`` into labels ``(N,)`` uint8.

    Args:
        codes: uint8, as in the file.
        where: What they belong to, for the message.
        mapping: Code to label; default :data:`ASPRS`.
        unknown: ``refuse`` codes that the mapping does not know, or ``ignore`` their points.

    Raises:
        UserError: A code without a mapping occurs.
    """
    mapping = ASPRS if mapping is None else mapping
    present, counts = np.unique(codes, return_counts=True)
    strange = [(int(code), int(count)) for code, count in zip(present, counts) if int(code) not in mapping]
    if strange and unknown != 'ignore':
        told = ', '.join(f'{code} ({count:,} points)' for code, count in strange)
        raise UserError(f'{where}: classification: expected ASPRS 0 to 18 or 64 to 67, found {told}; map them with '
                        '--map CODE=CLASS or leave their points out with --unknown-classes ignore')
    return _table(mapping)[codes]
