"""The village as an aerial laser scanner sees it: points with returns, intensity, colour, and what each one lies on.

Pulses fly in strips (lidar_flight.py). The first face on a pulse's way ends it (lidar_surfaces.py), else the ground
does (lidar_ground.py); crowns and hedges let part of it through (lidar_plants.py). So walls have points only where a
strip sees them, and what stands behind a house lies in its shadow. Every pulse is a function of the scene and the
flight alone: tiles of any cut hold the same points, each one once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from projects.engine.errors import UserError
from projects.scenes.files import draw
from projects.scenes.lidar_flight import MAX_ANGLE, Flight, Pulses
from projects.scenes.lidar_ground import Ground, Patch, terrain_drop
from projects.scenes.lidar_plants import Plants
from projects.scenes.lidar_random import keys_of, normal, uniform
from projects.scenes.lidar_returns import APART, Echoes, returns_of
from projects.scenes.lidar_surfaces import Faces, first_faces, make_faces
from projects.scenes.objects import OBJECTS, PARTS
from projects.scenes.render import Renderer
from projects.scenes.scene import Scene
from projects.scenes.terrain import WATER_DEPTH

MIN_DENSITY, MAX_DENSITY = 0.1, 200.0
QUANTUM = 0.01  # metres of a LAS file: a point belongs to the tile that its rounded coordinates lie in
_BLOCK = 64.0  # metres a side of what is computed at once
_RELIEF = 24.0  # the terrain stays this close to its base level, metres
_SPOT = 0.22  # metres from the middle of a pulse's spot on the ground where its light is looked at once more
_FAR_OFF = 4e-5  # share of pulses that meet a bird or a cloud, or come back twice: points of no object
_INTENSITY = 2300.0  # of a white surface straight below

# Share of light at 1064 nm that the ground sends back, and share of pulses that are lost on it
_GROUND_SHINE = {'bare_ground': 0.42, 'meadow': 0.42, 'semi_natural_grass': 0.4, 'crop': 0.4, 'bare_field': 0.33,
                 'water': 0.06, 'road': 0.19, 'path': 0.38, 'courtyard': 0.3, 'garden': 0.42}
_SHINE_OF = np.array([_GROUND_SHINE.get(name, 0.4) for name in OBJECTS])
_LOST_OF = np.array([{'water': 0.75, 'road': 0.02}.get(name, 0.0) for name in OBJECTS])
_LOST_ON = np.array([0.0] + [{'window': 0.3, 'car_glass': 0.45, 'skylight': 0.15}.get(name, 0.0) for name in PARTS])
_EIGHT = np.array([[1, 0], [0.75, 0.66], [0, 1], [-0.66, 0.75], [-1, 0], [-0.75, -0.66], [0, -1], [0.66, -0.75]])


@dataclass(frozen=True, eq=False)
class LidarPoints:
    """Points of a scan, arrays of one length N.

    Attributes:
        xyz: (N, 3) float64, scene metres, heights above the sea.
        intensity: uint16.  return_number, number_of_returns: uint8, from 1.
        scan_angle: float32, degrees to the side, positive to the left of the track.
        gps_time: float64, seconds; with return_number it names a point.
        strip: int32.  channel: uint8, which of the two scanners.
        object: uint8, id of objects.OBJECTS; `unknown` for a bird or an echo.
        part: uint8, index into objects.PARTS + 1, 0 where the object has no parts.
        building: int32, index into Scene.buildings or -1.
        face: int32, row of the table of faces (Scanner.faces) or -1.
        height: float32, metres above the terrain below the point, of the surface (without noise).
        rgb: (N, 3) uint16 and nir: (N,) uint16 of the orthophoto from above, or None.
    """

    xyz: np.ndarray
    intensity: np.ndarray
    return_number: np.ndarray
    number_of_returns: np.ndarray
    scan_angle: np.ndarray
    gps_time: np.ndarray
    strip: np.ndarray
    channel: np.ndarray
    object: np.ndarray
    part: np.ndarray
    building: np.ndarray
    face: np.ndarray
    height: np.ndarray
    rgb: np.ndarray | None = None
    nir: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    def kept(self, keep: np.ndarray) -> 'LidarPoints':
        """Those that ``keep`` (a mask or an index) names."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return LidarPoints(**{name: v if v is None else v[keep] for name, v in values.items()})

    @staticmethod
    def joined(parts: list['LidarPoints']) -> 'LidarPoints':
        """One after the other; all or none of them coloured. Empties the list: a tile's points exist once."""
        columns = {f.name: [getattr(p, f.name) for p in parts] for f in fields(LidarPoints)}
        parts.clear()
        whole = {}
        while columns:
            name, column = columns.popitem()
            whole[name] = None if column[0] is None else np.concatenate(column)
        return LidarPoints(**whole)


class Scanner:
    """Flies over one scene; keeps what all its tiles share.

    Args:
        scene: from :func:`projects.scenes.scene.make_scene`.
        density: pulses per square metre, all strips together. Points are 2 to 30 % more: leaves return several.
        seed: of the flight (default: the scene's).
        height: of the sensor above the terrain's base level, metres.  max_angle: to the side, degrees, at most 20.
        noise: 1 for the sensor's (2 cm along the ray, 3 cm across, a few outliers); 0 for exact points.
        colour: take R, G, B and NIR from the orthophoto of ``season`` at ``resolution`` metres.
    """

    def __init__(self, scene: Scene, density: float = 15.0, seed: int | None = None, height: float = 1800.0,
                 max_angle: float = MAX_ANGLE, noise: float = 1.0, colour: bool = True, season: str = 'summer',
                 resolution: float = 0.25):
        check_density(density)
        if not 5 <= max_angle <= MAX_ANGLE:
            raise UserError(f'max_angle: expected 5 to {MAX_ANGLE:g} degrees, found {max_angle:g}')
        if not 200 <= height <= 10_000:
            raise UserError(f'height: expected 200 to 10000 metres, found {height:g}')
        self.scene, self.noise, self.density = scene, float(noise), float(density)
        self.flight = Flight(scene.seed if seed is None else seed, density, height, max_angle, scene.terrain.base)
        self.ground = Ground(scene)
        self.plants = Plants(scene, self.flight)
        self.faces: Faces = make_faces(scene, self.flight)
        self._renderer = Renderer(scene, resolution, season) if colour else None
        # Points stay this close to where their pulse is aimed at
        self._reach = (_RELIEF + scene.tallest + 2) * self.flight.steepest + 3

    def sample(self, bounds: tuple[float, float, float, float]) -> LidarPoints:
        """All points within ``bounds`` (left, bottom, right, top; scene metres, half-open after rounding to cm)."""
        left, bottom, right, top = bounds
        if not (left < right and bottom < top):
            raise UserError(f'bounds: expected left < right and bottom < top, found {bounds}')
        found = [part for part in self._blocks(bounds) if len(part)]
        if not found:
            return self._painted(_none())
        return self._painted(LidarPoints.joined(found))

    def _blocks(self, bounds: tuple[float, float, float, float]) -> Iterator[LidarPoints]:
        left, bottom, right, top = bounds
        flight, far = self.flight, self._reach
        s, c = flight.to_flight(np.array([left, right, right, left]), np.array([bottom, bottom, top, top]))
        half = _BLOCK * np.sqrt(0.5) + far
        for j in range(int((c.min() - far) // _BLOCK), int((c.max() + far) // _BLOCK) + 1):
            for i in range(int((s.min() - far) // _BLOCK), int((s.max() + far) // _BLOCK) + 1):
                x, y = flight.to_scene((i + 0.5) * _BLOCK, (j + 0.5) * _BLOCK)
                if max(left - x, x - right, bottom - y, y - top) > half:
                    continue
                pulses = [self._near(p, bounds) for p in flight.pulses(i * _BLOCK, j * _BLOCK, _BLOCK)]
                pulses = [p for p in pulses if len(p)]
                if not pulses:
                    continue
                x, y = flight.to_scene(*(np.concatenate([getattr(p, k) for p in pulses]) for k in 'sc'))
                patch = Patch(self.ground, (x.min() - far, y.min() - far, x.max() + far, y.max() + far))
                for p in pulses:
                    yield self._points(patch, p, bounds)

    def _near(self, pulses: Pulses, bounds: tuple[float, float, float, float]) -> Pulses:
        """Pulses that may have points within the bounds."""
        x, y = self.flight.to_scene(pulses.s, pulses.c)
        left, bottom, right, top = bounds
        far = self._reach
        return pulses.kept((x > left - far) & (x < right + far) & (y > bottom - far) & (y < top + far))

    def _points(self, patch: Patch, pulses: Pulses, bounds: tuple[float, float, float, float]) -> LidarPoints:
        """What the pulses of one strip and scanner in one block bring back from within ``bounds``."""
        flight = self.flight
        drop = terrain_drop(patch, pulses, flight)
        # The part of each ray where something may stand; rays that stay outside bring nothing
        ends = np.stack([drop, drop - self.scene.tallest - 2])
        s, c = pulses.s + ends * pulses.ts, pulses.c + ends * pulses.tc  # (2, N)
        x, y = flight.to_scene(s, c)
        margin = 3.0
        keep = ((x.max(axis=0) > bounds[0] - margin) & (x.min(axis=0) < bounds[2] + margin)
                & (y.max(axis=0) > bounds[1] - margin) & (y.min(axis=0) < bounds[3] + margin))
        if not keep.any():
            return _none()
        pulses, drop, s, c = pulses.kept(keep), drop[keep], s[:, keep], c[:, keep]
        box = (float(s.min()), float(c.min()), float(s.max()), float(c.max()))
        echoes, blocked = self._ends(patch, pulses, drop, box)
        parts = [echoes]
        for leaves in self.plants.leaves(patch, pulses, box):
            p, none = leaves.pulse, np.zeros(len(leaves.pulse), np.int32)
            parts.append(Echoes(p, pulses.s[p], pulses.c[p], leaves.drop, none > 0, leaves.object,
                                none.astype(np.uint8), none - 1, leaves.shine)
                         .kept(leaves.drop < blocked[p] - 0.25))
        found, number, total = returns_of(Echoes.joined(parts), pulses.key)
        return self._measured(patch, pulses, found, number, total, bounds)

    def _ends(self, patch: Patch, pulses: Pulses, ground: np.ndarray,
              box: tuple[float, float, float, float]) -> tuple[Echoes, np.ndarray]:
        """What ends each pulse, the first face or the ground; at edges, part of its light goes on to another one.

        Args:
            ground: drop (N,) at which the pulses would meet the terrain.
        Returns:
            (echoes of faces and ground; drop (N,) at which the middle of each pulse ends).
        """
        flight, b = self.flight, self.faces.box
        margin = 2 * _SPOT
        near = np.flatnonzero((b[:, 2] > box[0] - margin) & (b[:, 0] < box[2] + margin)
                              & (b[:, 3] > box[1] - margin) & (b[:, 1] < box[3] + margin))
        face, drop, close = first_faces(self.faces, near, pulses, flight)
        middle = self._ended(patch, pulses, ground, face, drop)
        if not close.any():
            return middle.kept(uniform(pulses.key, 4) >= self._lost(middle)), middle.drop
        # The spot is some decimetres wide: look at one more place of it
        rows = np.flatnonzero(close)
        aside = pulses.kept(rows)
        angle = (uniform(aside.key, 5) * 8).astype(np.int64)
        aside = Pulses(aside.s + _SPOT * _EIGHT[angle, 0], aside.c + _SPOT * _EIGHT[angle, 1], aside.ts, aside.tc,
                       aside.key, aside.time, aside.strip, aside.channel)
        face, drop, _ = first_faces(self.faces, near, aside, flight)
        edge = self._ended(patch, aside, terrain_drop(patch, aside, flight), face, drop)
        keep = (np.abs(edge.drop - middle.drop[rows]) > APART) & (uniform(aside.key, 6) < 0.7)
        edge = Echoes(**{**vars(edge), 'pulse': rows}).kept(keep)
        # The upper of the two does not end the pulse
        other = middle.drop[edge.pulse]
        edge = Echoes(**{**vars(edge), 'solid': edge.drop > other})
        solid = np.ones(len(pulses), bool)
        solid[edge.pulse[edge.solid]] = False
        middle = Echoes(**{**vars(middle), 'solid': solid})
        both = Echoes.joined([middle, edge])
        return both.kept(uniform(pulses.key[both.pulse], 4) >= self._lost(both)), middle.drop

    def _lost(self, echoes: Echoes) -> np.ndarray:
        """Share of pulses of which nothing comes back."""
        return np.where(echoes.part > 0, _LOST_ON[echoes.part], _LOST_OF[echoes.object])

    def _ended(self, patch: Patch, pulses: Pulses, ground: np.ndarray, face: np.ndarray, drop: np.ndarray) -> Echoes:
        """One echo for each pulse: of ``face`` at ``drop``, or of the ground and the grass on it before that."""
        n, faces = len(pulses), self.faces
        x, y = self.flight.to_scene(pulses.s + ground * pulses.ts, pulses.c + ground * pulses.tc)
        area = patch.area(x, y)
        objects = self.ground.object[area]
        u = uniform(pulses.key, 3)
        ground = (ground - patch.plants(area, x, y) * (1 - u * u) + WATER_DEPTH * (objects == OBJECTS['water']))
        shine = _SHINE_OF[objects] * self.ground.shade[area] * (1 + 0.25 * patch.noise('mid', x, y)
                                                                 + 0.3 * patch.noise('grain', x, y))
        part = np.zeros(n, np.uint8)
        on = np.flatnonzero(drop < ground)
        f = face[on]
        part[on], objects[on] = faces.part[f], faces.object[f]
        # A slanted face sends less back
        facing = faces.normal[f, 2] - faces.normal[f, 0] * pulses.ts - faces.normal[f, 1] * pulses.tc[on]
        facing = np.clip(facing / np.sqrt(1 + pulses.ts**2 + pulses.tc[on]**2), 0.05, 1)
        shine[on] = faces.shine[f] * (0.35 + 0.65 * facing)
        return Echoes(np.arange(n), pulses.s, pulses.c, np.minimum(drop, ground), np.ones(n, bool), objects, part,
                      np.where(drop < ground, face, -1).astype(np.int32), shine)

    def _measured(self, patch: Patch, pulses: Pulses, found: Echoes, number: np.ndarray, total: np.ndarray,
                  bounds: tuple[float, float, float, float]) -> LidarPoints:
        """Returns as points, disturbed by the sensor's noise, those within ``bounds``."""
        flight, pulse = self.flight, found.pulse
        key = keys_of(pulses.key[pulse], number)
        x, y = flight.to_scene(found.s + found.drop * pulses.ts, found.c + found.drop * pulses.tc[pulse])
        z = flight.base - found.drop
        height = z - patch.terrain(x, y)
        # Light is shared between the returns of a pulse
        light = found.shine * (0.82 + 0.36 * uniform(key, 40)) / np.sqrt(total) / np.sqrt(np.sqrt(total))
        objects, part, face = found.object, found.part, found.face
        if self.noise:
            x, y, z, objects, part, face, height = self._disturbed(key, (x, y, z), objects, part, face, height)
        inside = _within(x, y, bounds)
        pulse, face = pulse[inside], face[inside]
        building = np.where(face >= 0, self.faces.building[face], -1) if len(self.faces) else face
        return LidarPoints(
            np.column_stack([x, y, z])[inside], np.clip(light[inside] * _INTENSITY, 1, 65535).astype(np.uint16),
            number[inside].astype(np.uint8), total[inside].astype(np.uint8),
            np.degrees(np.arctan(pulses.tc[pulse])).astype(np.float32), pulses.time[pulse],
            np.full(len(pulse), pulses.strip, np.int32), np.full(len(pulse), pulses.channel, np.uint8),
            objects[inside].astype(np.uint8), part[inside], building.astype(np.int32), face.astype(np.int32),
            height[inside].astype(np.float32))

    def _disturbed(self, key: np.ndarray, place: tuple[np.ndarray, ...], objects: np.ndarray,
                   part: np.ndarray, face: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, ...]:
        """The sensor's noise, and points of nothing above and below the scene."""
        x, y, z = (v + self.noise * sigma * normal(key, 42 + k)
                   for k, (v, sigma) in enumerate(zip(place, (0.03, 0.03, 0.02))))
        odd = uniform(key, 45) < _FAR_OFF * min(self.noise, 1)
        if odd.any():
            shift = np.where(uniform(key, 46) < 0.6, 4 + 26 * uniform(key, 47), -1.5 - 8 * uniform(key, 47))
            z = np.where(odd, z + shift, z)
            height = np.where(odd, height + shift, height)
            objects = np.where(odd, OBJECTS['unknown'], objects)
            part, face = np.where(odd, 0, part).astype(np.uint8), np.where(odd, -1, face)
        return x, y, z, objects, part, face, height

    def _painted(self, points: LidarPoints) -> LidarPoints:
        """Colours of the orthophoto at the points: what is seen there from above, whatever the point lies on."""
        if self._renderer is None:
            return points
        if not len(points):
            return replace(points, rgb=np.zeros((0, 3), np.uint16), nir=np.zeros(0, np.uint16))
        r = self._renderer.resolution
        column, row = (np.floor(points.xyz[:, k] / r).astype(np.int32) for k in (0, 1))
        left, bottom, right, top = column.min(), row.min(), column.max() + 1, row.max() + 1
        image, _ = draw(self._renderer, (left * r, bottom * r, right * r, top * r))
        row, column = top - 1 - row, column - left
        rgb = np.empty((len(points), 3), np.uint16)
        for band in range(3):
            rgb[:, band] = image[row, column, band]
        nir = image[row, column, 3].astype(np.uint16)
        return replace(points, rgb=rgb * np.uint16(257), nir=nir * np.uint16(257))


def check_density(density: float) -> None:
    """Raise a UserError for a density (pulses per square metre) that no scanner has."""
    if not MIN_DENSITY <= density <= MAX_DENSITY:  # NaN fails too
        raise UserError(f'--density: expected {MIN_DENSITY:g} to {MAX_DENSITY:g} pulses per square metre, '
                        f'found {density:g}')


def _within(x: np.ndarray, y: np.ndarray, bounds: tuple[float, float, float, float]) -> np.ndarray:
    left, bottom, right, top = (int(round(b / QUANTUM)) for b in bounds)
    column, row = np.rint(x / QUANTUM), np.rint(y / QUANTUM)
    return (column >= left) & (column < right) & (row >= bottom) & (row < top)


def _none() -> LidarPoints:
    f, i, b = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.uint8)
    return LidarPoints(np.zeros((0, 3)), np.zeros(0, np.uint16), b, b, f, np.zeros(0), i, b, b, b, i, i, f)


def sample_lidar(scene: Scene, bounds: tuple[float, float, float, float], density: float = 15.0,
                 seed: int | None = None, **options) -> LidarPoints:
    """Scan one piece of a scene; for many, make one :class:`Scanner` and call its ``sample``.

    Args:
        bounds: left, bottom, right, top in metres from the scene's lower left corner.
        density: pulses per square metre.  seed: of the flight (default: the scene's).
        options: of :class:`Scanner`.

    Raises:
        UserError: density, angle, height or bounds out of range.
    """
    return Scanner(scene, density, seed, **options).sample(bounds)
