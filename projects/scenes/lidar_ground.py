"""The ground below a block of pulses: terrain, what lies on it, and how high its plants stand.

Grids lie on lattices fixed to the scene, so that every block that covers a place reads the same values there.
"""

import numpy as np
import shapely

from projects.scenes.lidar_flight import Flight, Pulses
from projects.scenes.looks import KINDS, LOOKS, NOISES, Fields, area_tone
from projects.scenes.noise import noise_grid
from projects.scenes.objects import OBJECTS
from projects.scenes.raster import Window, fill, rings
from projects.scenes.scene import Scene

_TERRAIN = 1.0  # metres between posts; the terrain's finest waves are 22 m
_AREA = 0.25
_NOISE = 0.5
_LOW_PLANTS = 0.15  # metres: shorter plants are the ground


def _window(bounds: tuple[float, float, float, float], resolution: float) -> Window:
    left, bottom, right, top = bounds
    column, row = int(np.floor(left / resolution)) - 1, int(np.floor(bottom / resolution)) - 1
    return Window(row, column, int(np.ceil(top / resolution)) + 2 - row, int(np.ceil(right / resolution)) + 2 - column,
                  resolution)


class Patch:
    """Grids of one block of ground, read at scattered points; points outside read the border.

    ``season`` decides nothing but tones, so that the laser always flies over the plants of the layout.
    """

    def __init__(self, ground: 'Ground', bounds: tuple[float, float, float, float]):
        self._ground, scene = ground, ground.scene
        self._noise: dict[str, np.ndarray] = {}
        self._posts = _window(bounds, _TERRAIN)
        # Posts stand at whole metres
        x = np.arange(self._posts.column, self._posts.column + self._posts.width) * _TERRAIN
        y = np.arange(self._posts.row, self._posts.row + self._posts.height) * _TERRAIN
        self._z = scene.terrain.height_grid(x, y).astype(np.float64)
        self._noise_window = _window(bounds, _NOISE)
        window = _window(bounds, _AREA)
        self._area_window, self._area = window, np.zeros((window.height, window.width), np.int32)
        left, bottom, right, top = window.bounds
        boxes = ground.area_bounds
        near = (boxes[:, 0] < right) & (boxes[:, 2] > left) & (boxes[:, 1] < top) & (boxes[:, 3] > bottom)
        for k in np.flatnonzero(near):
            hit = fill(ground.edges(k), window)
            if hit is not None:
                self._area[hit[0], hit[1]][hit[2]] = k

    @staticmethod
    def _cells(window: Window, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        column = np.floor(x * (1 / window.resolution)).astype(np.int64) - window.column
        row = np.floor(y * (1 / window.resolution)).astype(np.int64) - window.row
        return np.clip(row, 0, window.height - 1), np.clip(column, 0, window.width - 1)

    def terrain(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of the terrain (float64, metres), linear between posts."""
        w = self._posts
        # The share between two posts is taken before the window's corner: it must not round differently in another one
        west, south = np.floor(x), np.floor(y)
        u, v = x - west, y - south
        j = np.clip(west.astype(np.int64) - w.column, 0, w.width - 2)
        i = np.clip(south.astype(np.int64) - w.row, 0, w.height - 2)
        flat, at = self._z.ravel(), i * w.width + j
        low = flat[at] + (flat[at + 1] - flat[at]) * u
        at = at + w.width
        high = flat[at] + (flat[at + 1] - flat[at]) * u
        return low + (high - low) * v

    def noise(self, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Noise in [-0.5, 0.5] (float32), the renderer's at half a metre."""
        w = self._noise_window
        if name not in self._noise:
            scale, salt = NOISES[name]
            self._noise[name] = noise_grid(w.x, w.y, scale, self._ground.scene.seed * 1000 + salt) - np.float32(0.5)
        return self._noise[name][self._cells(w, x, y)]

    def area(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Index into Scene.areas of what lies there."""
        return self._area[self._cells(self._area_window, x, y)]

    def plants(self, area: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height (float64, metres) of crops and grass, 0 where they are short; rows and wheel tracks show."""
        ground = self._ground
        height = np.zeros(len(area))
        tall = np.flatnonzero(ground.plants[area] > _LOW_PLANTS)
        kinds = ground.kind[area[tall]]
        for kind in np.unique(kinds):
            rows = tall[kinds == kind]
            a, px, py = area[rows], x[rows], y[rows]
            c, s = ground.along[a, 0], ground.along[a, 1]
            fields = Fields(*(self.noise(n, px, py) for n in ('grain', 'fine', 'mid', 'large', 'huge')),
                            along=px * c + py * s, across=py * c - px * s, pick=ground.pick[a], resolution=_NOISE)
            height[rows] = ground.plants[a] * np.asarray(LOOKS[KINDS[kind]](fields).plants)
        return np.where(height > _LOW_PLANTS, height, 0.0)


class Ground:
    """What all blocks of a scene share about its ground."""

    def __init__(self, scene: Scene):
        self.scene = scene
        areas = scene.areas
        self.area_bounds = shapely.bounds(np.array([a.polygon for a in areas], dtype=object))
        tones = [area_tone(a, 'summer') for a in areas]
        self.object = np.array([OBJECTS[a.object] for a in areas], np.uint8)
        self.kind = np.array([KINDS.index(a.kind) for a in areas], np.uint8)
        self.plants = np.array([a.height for a in areas])
        self.pick = np.array([t.pick for t in tones], np.float32)
        self.shade = np.array([t.light for t in tones])  # one field is lighter than the next
        self.along = np.array([(np.cos(a.direction), np.sin(a.direction)) for a in areas])
        self._edges: dict[int, np.ndarray] = {}

    def edges(self, k: int) -> np.ndarray:
        """Edges (N, 4) of the rings of area ``k``."""
        if k not in self._edges:
            self._edges[k] = rings(self.scene.areas[k].polygon)
        return self._edges[k]


def terrain_drop(patch: Patch, pulses: Pulses, flight: Flight) -> np.ndarray:
    """Drop below the base level (N,) at which the pulses' rays meet the terrain.

    Rays fall at least twice as steeply as the terrain does, so each round leaves less than a tenth of the error.
    """
    drop = np.zeros(len(pulses))
    for _ in range(6):
        x, y = flight.to_scene(pulses.s + drop * pulses.ts, pulses.c + drop * pulses.tc)
        drop = flight.base - patch.terrain(x, y)
    return drop
