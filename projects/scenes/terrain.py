"""The ground: a height field in metres as a function of position, carved by water and levelled by roads."""

from dataclasses import dataclass

import numpy as np

from projects.scenes.noise import noise_at, noise_grid

# (size of a hill in metres, its height in metres): gentle enough for a village, steep enough to shade
_OCTAVES = ((620.0, 34.0), (260.0, 9.0), (90.0, 1.6), (22.0, 0.25))
WATER_DEPTH = 0.7  # metres that water lies below the terrain, from above and under the laser


@dataclass(frozen=True)
class Terrain:
    """Rolling ground around ``base`` metres above sea level, fixed by ``seed``."""

    seed: int
    base: float = 180.0

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height in metres (float64) at scattered points in scene coordinates (metres from the lower left corner)."""
        z = np.full(np.broadcast(x, y).shape, self.base)
        for i, (size, rise) in enumerate(_OCTAVES):
            z += rise * (noise_at(x, y, size, self.seed + 17 * i).astype(np.float64) - 0.5)
        return z

    def height_grid(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The same (float32) on the grid of columns ``x`` and rows ``y``: shape (len(y), len(x))."""
        z = np.full((len(y), len(x)), self.base, np.float32)
        for i, (size, rise) in enumerate(_OCTAVES):
            z += np.float32(rise) * (noise_grid(x, y, size, self.seed + 17 * i) - np.float32(0.5))
        return z
