"""The scene's own vocabulary: object ids of the ground plan, their colours, and the parts of a building.

Tasks map these names to their own classes; the scene knows no task.
"""

OBJECTS: dict[str, int] = {
    'unknown': 0,
    'bare_ground': 1,
    'meadow': 2,
    'semi_natural_grass': 3,
    'crop': 4,
    'bare_field': 5,
    'tree': 6,
    'water': 7,
    'road': 8,
    'path': 9,
    'courtyard': 10,
    'building': 11,
    'garden': 12,
    'hedge': 13,
    'car': 14,
}

PALETTE: dict[str, tuple[int, int, int]] = {
    'unknown': (0, 0, 0),
    'bare_ground': (188, 143, 98),
    'meadow': (152, 216, 88),
    'semi_natural_grass': (216, 206, 74),
    'crop': (242, 180, 92),
    'bare_field': (158, 106, 62),
    'tree': (24, 112, 48),
    'water': (52, 120, 214),
    'road': (92, 92, 100),
    'path': (206, 190, 160),
    'courtyard': (160, 156, 164),
    'building': (204, 58, 52),
    'garden': (92, 184, 132),
    'hedge': (66, 142, 66),
    'car': (238, 66, 222),
}

# Names of the faces of solids. A roof face carries its roof's type; a wall says what it holds.
PARTS: tuple[str, ...] = (
    'wall_plain',
    'wall_with_windows',
    'wall_with_door',
    'roof_flat',
    'roof_gable',
    'roof_hip',
    'roof_mansard',
    'roof_gambrel',
    'roof_edge',
    'overhang',
    'cornice',
    'chimney',
    'dormer_gable',
    'dormer_shed',
    'skylight',
    'window',
    'door',
    'garage_door',
    'balcony',
    'balustrade',
    'foundation',
    'car_body',
    'car_glass',
)

# Types of roof edges: `ridge` is convex and level, `hip` convex and sloped, `valley` concave, `eave` the level lower
# border, `verge` the sloped border above a gable wall, `break` the level line between two slopes on one side
# (mansard and gambrel).
EDGE_TYPES: tuple[str, ...] = ('ridge', 'hip', 'valley', 'eave', 'verge', 'break')
