"""Which part of a roof line trees and hedges hide from straight above."""

from collections.abc import Iterator

import numpy as np
import shapely

from projects.scenes.looks import NOISES
from projects.scenes.noise import noise_at
from projects.scenes.scene import Scene
from projects.scenes.vegetation import crown_lumps, crown_surface

_REACH = 1.2  # crowns stay within this share of their radius
NEARLY_JOINED = 0.25  # share of a hull that may be seen between the hidden parts
SHORTEST_HIDDEN = 0.5  # pixels: hidden parts below it count as nothing
_SAMPLES = 4  # a pixel


class Leaves:
    """The plants of one scene, as a view of ``resolution`` metres a pixel draws them."""

    def __init__(self, scene: Scene, resolution: float):
        self._scene, self._resolution = scene, resolution
        trees = scene.trees
        self._trees = shapely.STRtree(shapely.box(trees.x - _REACH * trees.radius, trees.y - _REACH * trees.radius,
                                                  trees.x + _REACH * trees.radius, trees.y + _REACH * trees.radius))
        self._hedges = shapely.STRtree([hedge.line.buffer(hedge.width / 2, cap_style='flat', quad_segs=3)
                                        for hedge in scene.hedges])

    def above(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Whether leaves lie above the points (N,) of one line, scene metres."""
        box = shapely.box(x.min(), y.min(), x.max(), y.max())
        hidden = np.zeros(len(x), bool)
        for k in np.sort(self._trees.query(box)):
            trees = self._scene.trees
            dx, dy = x - trees.x[k], y - trees.y[k]
            near = np.flatnonzero(~hidden & (np.maximum(abs(dx), abs(dy)) < _REACH * trees.radius[k]))
            if len(near):
                lumps = crown_lumps(self._noise('leaf', x[near], y[near]), self._noise('grain', x[near], y[near]))
                surface, q2 = crown_surface(dx[near], dy[near], lumps, float(trees.height[k]), float(trees.radius[k]),
                                            int(trees.kind[k]))
                hidden[near] = (q2 < 1) & (surface + trees.z[k] > z[near])
        for k in np.sort(self._hedges.query(box)):
            near = np.flatnonzero(~hidden & shapely.contains_xy(self._hedges.geometries[k], x, y))
            if len(near):
                lumps = self._noise('fine', x[near], y[near]) + 0.6 * self._noise('grain', x[near], y[near])
                top = (self._scene.terrain.height(x[near], y[near])
                       + self._scene.hedges[k].height * (0.9 + 0.5 * lumps))
                hidden[near] = top > z[near]
        return hidden

    def _noise(self, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The renderer's noise of this name at points: a pixel averages what is finer than itself."""
        scale, salt = NOISES[name]
        fade = min(1.0, scale / (0.9 * self._resolution))
        return (noise_at(x, y, scale, self._scene.seed * 1000 + salt) - 0.5) * fade


def occlusions_of(leaves: Leaves, starts: np.ndarray, ends: np.ndarray,
                  resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """Look along every line for leaves above it, four times a pixel.

    Args:
        leaves: The plants.
        starts, ends: (M, 3) ends of the lines, scene metres.
        resolution: Metres a pixel.

    Returns:
        Intervals (M, 2) as shares from the start: (0, 0) where nothing is hidden, the hull of several hidden parts
        where at most a quarter of it is seen between them, else NaN (parts below half a pixel are left aside); and
        the hidden share (M,) of each line.
    """
    intervals, shares = np.zeros((len(starts), 2)), np.zeros(len(starts))
    for number, hidden in enumerate(_hidden_samples(leaves, starts, ends, resolution / _SAMPLES)):
        shares[number] = hidden.mean()
        intervals[number] = _interval(hidden)
    return intervals, shares


def _interval(hidden: np.ndarray) -> tuple[float, float]:
    """The one interval of a line whose samples (K,) are hidden or not, as shares; NaN for several."""
    change = np.flatnonzero(np.diff(hidden, prepend=False, append=False))
    first, last = change[::2], change[1::2]
    long = last - first >= SHORTEST_HIDDEN * _SAMPLES
    if not long.any():
        return 0.0, 0.0
    first, last = first[long], last[long]
    low, high = int(first[0]), int(last[-1])
    if high - low - hidden[low:high].sum() > NEARLY_JOINED * (high - low):
        return np.nan, np.nan
    return low / len(hidden), high / len(hidden)


def _hidden_samples(leaves: Leaves, starts: np.ndarray, ends: np.ndarray, step: float) -> Iterator[np.ndarray]:
    for start, end in zip(starts, ends, strict=True):
        count = max(2, int(np.ceil(np.linalg.norm(end[:2] - start[:2]) / step)))
        x, y, z = (start + ((np.arange(count) + 0.5) / count)[:, None] * (end - start)).T
        yield leaves.above(x, y, z)
