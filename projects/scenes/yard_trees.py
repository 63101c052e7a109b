"""More trees close to houses: crowns that reach over roofs, which the village's own gardeners avoid."""

from dataclasses import replace

import numpy as np
import shapely
from shapely.geometry import Polygon

from projects.engine.errors import UserError
from projects.scenes.objects import OBJECTS
from projects.scenes.scene import Scene
from projects.scenes.vegetation import BROADLEAF, Trees

_FROM_WALL = (0.9, 2.6)  # metres from the wall to the stem
_OVER_EAVE = (0.5, 6.0)  # metres by which a tree is higher than the eave
_RADIUS = (2.2, 4.6)
_TRIES = 3


def with_yard_trees(scene: Scene, share: float, seed: int = 0) -> Scene:
    """Return the scene with trees beside a share of its buildings, one to three each; nothing else changes.

    Args:
        scene: From :func:`projects.scenes.scene.make_scene`; it is left as it is.
        share: Of the buildings that get trees, 0 to 1.
        seed: Which buildings, and where.

    Raises:
        UserError: ``share`` outside 0..1.
    """
    if not 0 <= share <= 1:  # NaN fails too
        raise UserError(f'yard trees: expected a share of 0 to 1, found {share:g}')
    rng = np.random.default_rng([scene.seed, seed, 6])
    plans = [Polygon(building.footprint) for building in scene.buildings]
    walls = shapely.STRtree(plans)
    roads = shapely.union_all([road.line.buffer(road.width / 2 + 0.4) for road in scene.roads])
    shapely.prepare(roads)
    rows = []
    for plan, building in zip(plans, scene.buildings, strict=True):
        # Drawn for every building, so that a larger share keeps the trees of a smaller one
        chosen, count = rng.random() < share, int(rng.integers(1, _TRIES + 1))
        draws = rng.random((_TRIES, 4))
        seeds = rng.integers(0, 1 << 30, _TRIES)
        if not chosen:
            continue
        for (along, out, tall, wide), stamp in zip(draws[:count], seeds[:count], strict=True):
            ring = plan.buffer(_FROM_WALL[0] + out * (_FROM_WALL[1] - _FROM_WALL[0])).exterior
            stem = ring.interpolate(along, normalized=True)
            if len(walls.query(stem, predicate='dwithin', distance=0.8)) or roads.intersects(stem):
                continue
            foot = float(scene.terrain.height(np.array([stem.x]), np.array([stem.y]))[0])
            height = max(3.0, building.eave - foot + _OVER_EAVE[0] + tall * (_OVER_EAVE[1] - _OVER_EAVE[0]))
            radius = min(_RADIUS[0] + wide * (_RADIUS[1] - _RADIUS[0]), 0.45 * height)
            rows.append((stem.x, stem.y, foot, height, radius, BROADLEAF, OBJECTS['tree'], int(stamp)))
    if not rows:
        return scene
    columns = dict(zip(('x', 'y', 'z', 'height', 'radius', 'kind', 'object', 'seed'), zip(*rows), strict=True))
    old = vars(scene.trees)
    trees = Trees(**{name: np.concatenate([old[name], np.array(values, old[name].dtype)])
                     for name, values in columns.items()})
    return replace(scene, trees=trees, tallest=max(scene.tallest, max(columns['height']) + 1.0))
