"""Trees and hedges: positions, sizes and crown shapes, as arrays.

A crown is a solid of revolution with lumps: `crown_surface` gives its upper surface, so that a view and a laser see the
same leaves.
"""

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import LineString

from projects.scenes.noise import noise_at
from projects.scenes.terrain import Terrain

BROADLEAF, CONIFER, FRUIT, SHRUB, POPLAR = range(5)
# Share of the height at which the crown begins, and how pointed it is (exponent of the radial profile)
CROWN_BASE = np.array([0.28, 0.12, 0.30, 0.0, 0.08])
CROWN_POWER = np.array([2.5, 1.0, 2.0, 2.0, 1.5])
LUMP = np.array([1.5, 0.6, 0.65, 0.35, 1.0])  # metres


@dataclass(eq=False)
class Trees:
    """All trees and shrubs; arrays of one length.

    Attributes:
        x, y, z: foot in metres.  height, radius: of tree and crown, metres.
        kind: BROADLEAF, CONIFER, FRUIT, SHRUB or POPLAR.
        object: id of objects.OBJECTS that a view shows (a shrub belongs to the ground that it stands on).
        seed: fixes colour and lumps.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    height: np.ndarray
    radius: np.ndarray
    kind: np.ndarray
    object: np.ndarray
    seed: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Hedge:
    """A hedge along ``line``, ``width`` and ``height`` in metres."""

    line: LineString
    width: float
    height: float
    seed: int


def crown_lumps(leaf: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Lumps of crowns in [0, 1] from the noises of these names (looks.NOISES)."""
    return 0.5 + 0.62 * leaf + 0.38 * grain


def crown_share(dx: np.ndarray, dy: np.ndarray, lumps: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """Share q of the crown's radius, as :func:`crown_surface` takes and returns it; q < 1 is inside."""
    return (dx * dx + dy * dy) * (1 / radius**2) * (0.72 + 0.56 * lumps)


def crown_surface(dx: np.ndarray, dy: np.ndarray, lumps: np.ndarray, height: float | np.ndarray,
                  radius: float | np.ndarray, kind: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper surface of a crown around its stem: of one tree, or each place with a tree of its own.

    Args:
        dx, dy: offsets from the stem, metres; their type (float32 or float64) is the result's.
        lumps: two-scale noise in [0, 1] at the same places.
    Returns:
        (height above the foot in metres, share q of the crown's radius: the crown is where q < 1).
    """
    q2 = crown_share(dx, dy, lumps, radius)
    # Powers of q by square roots only: they are exact, so the crown is the same in every window
    root, power = np.sqrt(q2), CROWN_POWER[kind]
    profile = np.where(power < 2, root, q2) * np.where(power % 1 > 0, np.sqrt(root), 1)
    depth = (height * (1 - CROWN_BASE[kind]) * 0.85).astype(q2.dtype)
    lump = np.minimum(LUMP[kind], 0.25 * height).astype(q2.dtype)
    return height - depth * profile + lump * (lumps - 0.5) * 2, q2


def scatter(rng: np.random.Generator, bounds: tuple[float, float, float, float], spacing: float,
            jitter: float = 0.42) -> np.ndarray:
    """Points (N, 2) on a jittered triangular grid of ``spacing`` metres over ``bounds``."""
    left, bottom, right, top = bounds
    rows = np.arange(bottom, top, spacing * 0.87)
    columns = np.arange(left, right, spacing)
    x, y = np.meshgrid(columns, rows)
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.column_stack([x.ravel(), y.ravel()])
    return points + rng.uniform(-jitter, jitter, points.shape) * spacing


def scatter_in(rng: np.random.Generator, region: shapely.Geometry, spacing: float, jitter: float = 0.42) -> np.ndarray:
    """Those of :func:`scatter`'s points that lie in ``region``."""
    if region.is_empty:
        return np.zeros((0, 2))
    points = scatter(rng, region.bounds, spacing, jitter)
    shapely.prepare(region)
    return points[shapely.contains_xy(region, points[:, 0], points[:, 1])]


class Planter:
    """Collects trees and hands them out as one :class:`Trees`."""

    def __init__(self, rng: np.random.Generator, terrain: Terrain):
        self._rng, self._terrain = rng, terrain
        self._parts: list[tuple[np.ndarray, ...]] = []

    def plant(self, points: np.ndarray, kind: int | np.ndarray, height: tuple[float, float],
              slender: tuple[float, float], object_id: int) -> None:
        """Add trees at ``points`` (N, 2); height in a range of metres, radius = height x a range of ratios."""
        n = len(points)
        if not n:
            return
        tall = self._rng.uniform(*height, n)
        self._parts.append((points[:, 0], points[:, 1], tall, tall * self._rng.uniform(*slender, n),
                            np.broadcast_to(np.asarray(kind, np.int64), n), np.full(n, object_id),
                            self._rng.integers(0, 1 << 30, n)))

    def trees(self, keep_out: shapely.Geometry) -> Trees:
        """All planted trees, less those whose stem stands in ``keep_out``."""
        if not self._parts:
            none = np.zeros(0)
            return Trees(none, none, none, none, none, *(none.astype(t) for t in (np.int8, np.uint8, np.int64)))
        x, y, height, radius, kind, objects, seed = (np.concatenate(column) for column in zip(*self._parts))
        shapely.prepare(keep_out)
        keep = ~shapely.contains_xy(keep_out, x, y)
        x, y, height, radius, kind, objects, seed = (v[keep] for v in (x, y, height, radius, kind, objects, seed))
        return Trees(x, y, self._terrain.height(x, y), height, np.clip(radius, 0.5, 7.0), kind.astype(np.int8),
                     objects.astype(np.uint8), seed)


def forest_kinds(points: np.ndarray, rng: np.random.Generator, seed: int) -> np.ndarray:
    """Mostly broadleaved, with stands of conifers where slow noise is high."""
    stand = noise_at(points[:, 0], points[:, 1], 110.0, seed)
    conifer = (stand > 0.62) & (rng.random(len(points)) < 0.85) | (rng.random(len(points)) < 0.06)
    return np.where(conifer, CONIFER, BROADLEAF)
