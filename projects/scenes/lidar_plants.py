"""Crowns and hedges as porous bodies: where along its ray a pulse may send something back.

A pulse that enters a crown meets leaves soon after the surface, then others deeper down; which of them return a pulse's
light is decided with everything else on its way (lidar.py). A few pulses find a gap and see nothing of the crown.
"""

from dataclasses import dataclass

import numpy as np

from projects.scenes.lidar_flight import Flight, Pulses
from projects.scenes.lidar_ground import Patch
from projects.scenes.lidar_pairs import PulseGrid
from projects.scenes.lidar_random import exponential, keys_of, uniform
from projects.scenes.objects import OBJECTS
from projects.scenes.scene import Scene
from projects.scenes.vegetation import CONIFER, CROWN_BASE, crown_lumps, crown_share, crown_surface

_LEAVES = 4  # that one crown offers a pulse
_ENTRY = 0.28  # mean way from a crown's surface to the first leaf, metres
_SPACE, _WAY = 0.9, 1.7  # least way, and mean of what is added to it, to the next leaf
_GAP = 0.07  # share of pulses that meet no leaf of a crown
_REACH = 1.2  # crowns stay within this share of their radius


@dataclass(frozen=True, eq=False)
class Leaves:
    """What plants offer to pulses: index of the pulse, drop below the base, object id, share of light; one length."""

    pulse: np.ndarray
    drop: np.ndarray
    object: np.ndarray
    shine: np.ndarray


class Plants:
    """Trees and hedges of a scene as tables in flight coordinates."""

    def __init__(self, scene: Scene, flight: Flight):
        self.trees, self.flight = scene.trees, flight
        self.s, self.c = flight.to_flight(scene.trees.x, scene.trees.y)
        ends, rows = [], []
        for hedge in scene.hedges:
            p = np.array(hedge.line.coords)
            last = len(p) - 2
            for k in range(len(p) - 1):
                ends.append([*p[k], *p[k + 1]])
                rows.append([hedge.width, hedge.height, hedge.seed, k == 0, k == last])
        self.hedge = np.array(ends).reshape(-1, 4)
        self.hedge_row = np.array(rows).reshape(-1, 5)
        s0, c0 = flight.to_flight(self.hedge[:, 0], self.hedge[:, 1])
        s1, c1 = flight.to_flight(self.hedge[:, 2], self.hedge[:, 3])
        self.hedge_s, self.hedge_c = np.column_stack([s0, s1]), np.column_stack([c0, c1])

    def leaves(self, patch: Patch, pulses: Pulses, box: tuple[float, float, float, float]) -> list[Leaves]:
        """All that crowns and hedges near ``box`` (least and greatest s, c of the rays) offer to the pulses."""
        grid = PulseGrid(pulses.s, pulses.c)
        return [self._crowns(patch, pulses, grid, box), self._hedges(patch, pulses, grid, box)]

    # ---- crowns --------------------------------------------------------------------------------------------------

    def _crowns(self, patch: Patch, pulses: Pulses, grid: PulseGrid, box: tuple[float, float, float, float]) -> Leaves:
        trees, flight = self.trees, self.flight
        reach = trees.radius * _REACH
        near = np.flatnonzero((self.s + reach > box[0]) & (self.s - reach < box[2]) & (self.c + reach > box[1])
                              & (self.c - reach < box[3]))
        reach, s, c = reach[near], self.s[near], self.c[near]
        foot, tall, kind = trees.z[near], trees.height[near], trees.kind[near]
        base = foot + tall * CROWN_BASE[kind]
        top = foot + tall * 1.0 + 1.5
        boxes = []
        for z in (base, top):
            drop = flight.base - z
            boxes.append(flight.aimed(s - reach, c - reach, drop, pulses.strip, pulses.channel))
            boxes.append(flight.aimed(s + reach, c + reach, drop, pulses.strip, pulses.channel))
        left, right = (f([b[0] for b in boxes], axis=0) for f in (np.min, np.max))
        bottom, upper = (f([b[1] for b in boxes], axis=0) for f in (np.min, np.max))
        item, pulse = grid.pairs(left, bottom, right, upper)
        # Rays that pass the stem too far away, wherever between base and top they come nearest
        ts, tc = pulses.ts, pulses.tc[pulse]
        low, high = (flight.base - top)[item], (flight.base - base)[item]
        ds, dc = pulses.s[pulse] - s[item], pulses.c[pulse] - c[item]
        nearest = np.clip(-(ds * ts + dc * tc) / (ts * ts + tc * tc), low, high)
        keep = (ds + nearest * ts)**2 + (dc + nearest * tc)**2 < reach[item]**2
        item, pulse, tc, ds, dc, low, high = (v[keep] for v in (item, pulse, tc, ds, dc, low, high))
        if not len(item):
            return _nothing()
        # Where the ray goes under the crown's surface, found from a guess by three rounds
        radius, height, z0, kind = (v[item] for v in (trees.radius[near], tall, foot, kind))
        drop = low + 0.35 * (high - low)
        for _ in range(3):
            os, oc = ds + drop * ts, dc + drop * tc
            dx, dy = flight.to_scene(os, oc)
            x, y = dx + trees.x[near][item], dy + trees.y[near][item]
            lumps = crown_lumps(patch.noise('leaf', x, y), patch.noise('grain', x, y))
            surface, _ = crown_surface(dx, dy, lumps, height, radius, kind)
            drop = np.clip(flight.base - (z0 + surface), low, high)
        # A tree's own leaves, whatever it is called where
        key = keys_of(pulses.key[pulse], self.trees.seed[near][item])
        alive = uniform(key, 20) >= _GAP
        found = []
        for k in range(_LEAVES):
            drop = drop + (_ENTRY * exponential(key, 21) if k == 0 else _SPACE + _WAY * exponential(key, 21 + k))
            q2 = crown_share(ds + drop * ts, dc + drop * tc, lumps, radius)
            hit = alive & (q2 < 1) & (drop < high)
            found.append((pulse[hit], drop[hit], trees.object[near][item[hit]], kind[hit]))
        pulse, drop, objects, kind = (np.concatenate(column) for column in zip(*found))
        return Leaves(pulse, drop, objects, np.where(kind == CONIFER, 0.34, 0.5))

    # ---- hedges --------------------------------------------------------------------------------------------------

    def _hedges(self, patch: Patch, pulses: Pulses, grid: PulseGrid, box: tuple[float, float, float, float]) -> Leaves:
        flight = self.flight
        width, height, seed, first, last = self.hedge_row.T
        half = width / 2
        s0, s1 = self.hedge_s.min(axis=1) - half, self.hedge_s.max(axis=1) + half
        c0, c1 = self.hedge_c.min(axis=1) - half, self.hedge_c.max(axis=1) + half
        near = np.flatnonzero((s1 > box[0]) & (s0 < box[2]) & (c1 > box[1]) & (c0 < box[3]))
        if not len(near):
            return _nothing()
        s0, s1, c0, c1, half, height, seed, first, last = (v[near] for v in (s0, s1, c0, c1, half, height, seed, first,
                                                                             last))
        p0, p1 = self.hedge[near, :2], self.hedge[near, 2:]
        z = np.maximum(patch.terrain(*p0.T), patch.terrain(*p1.T))
        low = flight.base - (z + height * 1.3 + 1.0)
        high = flight.base - np.minimum(patch.terrain(*p0.T), patch.terrain(*p1.T)) + 1.0
        boxes = [flight.aimed(s, c, drop, pulses.strip, pulses.channel) for drop in (low, high)
                 for s, c in ((s0, c0), (s1, c1))]
        item, pulse = grid.pairs(*(np.min([b[i] for b in boxes], axis=0) for i in (0, 1)),
                                 *(np.max([b[i] for b in boxes], axis=0) for i in (0, 1)))
        if not len(item):
            return _nothing()
        ts, tc = pulses.ts, pulses.tc[pulse]
        drop = (flight.base - z - 0.8 * height)[item]
        for _ in range(3):
            x, y = flight.to_scene(pulses.s[pulse] + drop * ts, pulses.c[pulse] + drop * tc)
            lumps = patch.noise('fine', x, y) + 0.6 * patch.noise('grain', x, y)
            foot = patch.terrain(x, y)
            drop = flight.base - foot - height[item] * (0.9 + 0.5 * lumps)
        along = p1 - p0
        length2 = (along**2).sum(axis=1)
        key = keys_of(pulses.key[pulse], seed.astype(np.int64)[item])
        alive = uniform(key, 30) >= 0.03
        found = []
        for k in range(2):
            drop = drop + (0.12 * exponential(key, 31) if k == 0 else 0.8 + 0.8 * exponential(key, 32))
            x, y = flight.to_scene(pulses.s[pulse] + drop * ts, pulses.c[pulse] + drop * tc)
            dx, dy = x - p0[item, 0], y - p0[item, 1]
            t = (dx * along[item, 0] + dy * along[item, 1]) / length2[item]
            ends = np.where(first[item] > 0, t >= 0, True) & np.where(last[item] > 0, t <= 1, True)
            t = np.clip(t, 0, 1)
            off = (dx - t * along[item, 0])**2 + (dy - t * along[item, 1])**2
            hit = alive & ends & (off < half[item]**2) & (drop < flight.base - foot - 0.1)
            found.append((pulse[hit], drop[hit]))
        pulse, drop = (np.concatenate(column) for column in zip(*found))
        return Leaves(pulse, drop, np.full(len(pulse), OBJECTS['hedge'], np.uint8), np.full(len(pulse), 0.48))


def _nothing() -> Leaves:
    return Leaves(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8), np.zeros(0))
