"""Scenes of one or two known buildings on level-ish ground, for tests."""

import numpy as np
import shapely

from projects.scenes.buildings import Building, make_building
from projects.scenes.layout import Area
from projects.scenes.objects import OBJECTS
from projects.scenes.scene import Scene
from projects.scenes.terrain import Terrain
from projects.scenes.vegetation import BROADLEAF, Trees

TERRAIN = Terrain(5)


def building(roof: str, x: float, y: float, length: float, width: float, wall: float, angle: float = 0.3,
             kind: str = 'annex', **options) -> Building:
    """One building without details on its roof."""
    return make_building(np.random.default_rng(0), TERRAIN, kind, roof, x, y, angle, length, width, wall, 'tile_red',
                         **options)


def trees(*rows: tuple[float, float, float, float]) -> Trees:
    """Broadleaved trees at (x, y, height, radius)."""
    x, y, height, radius = np.array(rows, np.float64).reshape(-1, 4).T
    n = len(x)
    return Trees(x, y, TERRAIN.height(x, y), height, radius, np.full(n, BROADLEAF, np.int8),
                 np.full(n, OBJECTS['tree'], np.uint8), np.arange(n, dtype=np.int64))


def scene(*buildings: Building, plants: Trees | None = None) -> Scene:
    """A meadow of 60 m with these buildings on it."""
    meadow = Area('meadow', 'pasture', shapely.box(-200, -200, 260, 260), 0.0, 1, 0.1)
    plants = trees() if plants is None else plants
    return Scene(3, (60.0, 60.0), (600_000, 6_600_000), TERRAIN, [meadow], [], [], plants, list(buildings), [], 20.0)
