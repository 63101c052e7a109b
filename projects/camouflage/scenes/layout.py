"""Where objects lie: outlines of a wanted area near the centre, clear of each other, with what hides parts of them."""

import math
from dataclasses import dataclass

import numpy as np

from projects.camouflage.scenes.background import occluder_parts
from projects.camouflage.scenes.raster import fill, place
from projects.camouflage.scenes.silhouettes import Silhouette, draw_silhouette, ellipse

_TRIES = 10


@dataclass
class Placed:
    """An object in the picture.

    Attributes:
        shape: its outline in its own frame.
        scale, turn, centre, flip: how it is placed (pixels, radians).
        alpha: (H, W) coverage in [0, 1], as if nothing were before it.
        occluder: (H, W) coverage of what lies before it.
    """

    shape: Silhouette
    scale: float
    turn: float
    centre: np.ndarray
    flip: bool
    alpha: np.ndarray
    occluder: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """Pixels (H, W) bool at which one sees the object."""
        return (self.alpha >= 0.5) & (self.occluder < 0.5)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Bring points (n, 2) of the object's frame into the picture."""
        return place(points, self.scale, self.turn, self.centre, self.flip)


def _draw(shape: Silhouette, hidden_by: list[np.ndarray], scale: float, turn: float, centre: np.ndarray, flip: bool,
          size: tuple[int, int]) -> Placed:
    def covered(polygons: list[np.ndarray]) -> np.ndarray:
        if not polygons:
            return np.zeros(size, np.float32)
        return fill([place(p, scale, turn, centre, flip) for p in polygons], *size)
    return Placed(shape, scale, turn, centre, flip, covered(shape.parts), covered(hidden_by))


def _place_one(rng: np.random.Generator, size: tuple[int, int], aquatic: bool, area: tuple[float, float],
               alone: bool, taken: np.ndarray) -> Placed | None:
    h, w = size
    target = math.exp(rng.uniform(math.log(area[0]), math.log(area[1])))
    shape = draw_silhouette(rng, aquatic, target)
    turn = rng.normal(0, 0.2) if shape.upright else rng.uniform(0, 2 * math.pi)
    flip = bool(rng.random() < 0.5)
    spread = 0.15 if alone else 0.24
    centre = np.clip(rng.normal(0.5, spread, 2), 0.08, 0.92) * (w, h)
    hidden_by = occluder_parts(rng) if rng.random() < 0.4 and target > 0.01 else []
    scale = math.sqrt(target * h * w / 1.2)
    for _ in range(5):
        placed = _draw(shape, hidden_by, scale, turn, centre, flip, size)
        share = float(placed.visible.mean())
        if abs(share / target - 1) < 0.05:
            break
        scale *= float(np.clip(math.sqrt(target / max(share, 1e-5)), 0.4, 2.0))
    if not area[0] <= share <= area[1] or scale > 3 * max(h, w):
        return None
    return None if (placed.visible & taken).any() else placed


def _fallback(rng: np.random.Generator, size: tuple[int, int], area: tuple[float, float], taken: np.ndarray) -> Placed:
    """An ellipse of a wanted area at the free place that overlaps least; it always fits."""
    h, w = size
    target = math.sqrt(area[0] * area[1]) if area[1] / area[0] < 4 else area[0] * 2
    scale = math.sqrt(target * h * w / (math.pi * h * w))
    shape = Silhouette('blob', [ellipse(0, 0, 1.0, h / w if h < w else 1.0)])
    shape.parts[0][:, 0] *= 1.0 if h < w else w / h
    best, least = None, math.inf
    for k in range(40):
        centre = rng.uniform(scale, 1 - scale, 2) * (w, h) if scale < 0.5 and k else np.array([w / 2, h / 2])
        placed = _draw(shape, [], scale * max(h, w), 0.0, centre, False, size)
        overlap = int((placed.visible & taken).sum())
        if overlap < least:
            best, least = placed, overlap
        if not least:
            break
    return best


def draw_layout(rng: np.random.Generator, size: tuple[int, int], aquatic: bool, area: tuple[float, float],
                objects: tuple[int, int]) -> list[Placed]:
    """Place the objects of a scene.

    Args:
        rng: where the randomness comes from.
        size: H, W.
        aquatic: animals of the water, not of the land.
        area: least and largest share of the picture that one object shows; together they show no more than the
            largest where that is possible.
        objects: least and largest number.
    """
    count = int(rng.integers(objects[0], objects[1] + 1))
    each = (area[0], max(area[1] / count, min(area[0] * 1.3, area[1])))
    placed: list[Placed] = []
    taken = np.zeros(size, bool)
    for _ in range(count):
        one = None
        for _ in range(_TRIES):
            one = _place_one(rng, size, aquatic, each, count == 1, taken)
            if one is not None:
                break
        if one is None:
            one = _fallback(rng, size, each, taken)
        for other in placed:  # nothing that hides this one hides another
            one.occluder *= other.alpha < 0.02
            other.occluder *= one.alpha < 0.02
        placed.append(one)
        taken |= one.alpha > 0.02
    return placed
