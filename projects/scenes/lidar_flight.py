"""The flight over a scene: parallel strips, two scanners that look ahead and back, and the pulses they send.

Everything is laid out in flight coordinates: s along the strips, c across them, and w the drop below the terrain's
base level. A pulse is aimed at a place (s, c) of that level; its ray is (s, c) + w (ts, tc). Every place lies in
exactly two strips, which look at it from two sides, and the two scanners of each are tilted by 8 degrees: so walls of
all directions are seen, as far as their surroundings let them.
"""

from dataclasses import dataclass

import numpy as np

from projects.scenes.lidar_random import keys_of, normal, uniform

MAX_ANGLE = 20.0  # degrees to the side
TILT = 8.0  # degrees that the two scanners look ahead and back
SPEED = 70.0  # metres a second
_STRIP_SECONDS = 1000.0
_CHANNELS = 2
_OVERLAP = 2  # strips that see a place
_START = 300_000_000.0  # GPS seconds


@dataclass(frozen=True, eq=False)
class Pulses:
    """Pulses of one strip and one scanner; arrays of one length.

    Attributes:
        s, c: where they are aimed at, flight coordinates.  ts, tc: metres that the ray moves per metre of drop.
        key: of their random numbers.  time: seconds; no two pulses of a flight share one.
        strip, channel: whose they are.
    """

    s: np.ndarray
    c: np.ndarray
    ts: float
    tc: np.ndarray
    key: np.ndarray
    time: np.ndarray
    strip: int
    channel: int

    def __len__(self) -> int:
        return len(self.s)

    def kept(self, keep: np.ndarray) -> 'Pulses':
        """Those that ``keep`` (a mask or an index) names."""
        return Pulses(self.s[keep], self.c[keep], self.ts, self.tc[keep], self.key[keep], self.time[keep], self.strip,
                      self.channel)


class Flight:
    """Strips over everywhere, fixed by a seed.

    Args:
        seed: of the flight: heading, place of the strips and all random numbers.
        density: pulses per square metre of level ground, all strips together.
        height: of the sensor above ``base``, metres.  max_angle: to the side, degrees.
        base: level that pulses are aimed at, metres above the sea.
    """

    def __init__(self, seed: int, density: float, height: float, max_angle: float, base: float):
        rng = np.random.default_rng([seed, 11])
        self.heading = float(rng.uniform(0, np.pi))
        self._phase = float(rng.random())
        self.seed, self.density, self.height, self.base = seed, density, height, base
        self.spacing = height * float(np.tan(np.radians(max_angle)))  # between strips; half of a strip's width
        self.tilt = float(np.tan(np.radians(TILT)))
        self.steepest = float(np.hypot(np.tan(np.radians(max_angle)), self.tilt))
        self.step = float(np.sqrt(_OVERLAP * _CHANNELS / density))  # between lines, and between pulses of a line
        self._cos, self._sin = float(np.cos(self.heading)), float(np.sin(self.heading))

    def to_flight(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scene coordinates to (s, c)."""
        return x * self._cos + y * self._sin, y * self._cos - x * self._sin

    def to_scene(self, s: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(s, c) to scene coordinates."""
        return s * self._cos - c * self._sin, s * self._sin + c * self._cos

    def line_of(self, strip: int) -> float:
        """Coordinate c of a strip's track."""
        return (strip + self._phase) * self.spacing

    def slope_along(self, channel: int) -> float:
        """``ts`` of a scanner: 0 looks back, 1 ahead."""
        return self.tilt if channel else -self.tilt

    def aimed(self, s: np.ndarray, c: np.ndarray, drop: np.ndarray, strip: int,
              channel: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the pulse that passes (s, c) at ``drop`` below the base is aimed at: perspective, lines stay lines."""
        track = self.line_of(strip)
        return s - drop * self.slope_along(channel), track + (c - track) / (1 + drop / self.height)

    def pulses(self, left: float, bottom: float, size: float) -> list[Pulses]:
        """Pulses whose places in the scan pattern lie in [left, left + size) x [bottom, bottom + size) of (s, c)."""
        found = []
        first = int(np.floor(bottom / self.spacing - self._phase))
        last = int(np.floor((bottom + size) / self.spacing - self._phase)) + 1
        for strip in range(first, last + 1):
            for channel in range(_CHANNELS):
                pulses = self._strip_pulses(left, bottom, size, strip, channel)
                if pulses is not None:
                    found.append(pulses)
        return found

    def _strip_pulses(self, left: float, bottom: float, size: float, strip: int, channel: int) -> Pulses | None:
        step, track = self.step, self.line_of(strip)
        low, high = max(bottom, track - self.spacing), min(bottom + size, track + self.spacing)
        if low >= high:
            return None
        shift = uniform(keys_of(self.seed, strip, channel, np.array([1, 2])), 0)
        # Place i of the pattern is at (i + shift) x step; half-open ranges, so places belong to one block and strip
        line = np.arange(int(np.ceil(left / step - shift[0])), int(np.ceil((left + size) / step - shift[0])))
        number = np.arange(int(np.ceil(low / step - shift[1])), int(np.ceil(high / step - shift[1])))
        if not len(line) or not len(number):
            return None
        # The aircraft sways: whole lines are off by some centimetres
        sway = 0.12 * step * normal(keys_of(self.seed, strip, channel, line, 3), 0)
        line, number = (grid.ravel() for grid in np.meshgrid(line, number, indexing='ij'))
        key = keys_of(self.seed, strip, channel, line, number)
        s = (line + shift[0]) * step + np.repeat(sway, len(line) // len(sway)) + 0.16 * step * (uniform(key, 1) - 0.5)
        c = (number + shift[1]) * step + 0.6 * step * (uniform(key, 2) - 0.5)
        per_line = 2 * self.spacing / step + 2
        time = _START + _STRIP_SECONDS * strip + (channel * 0.5 + line + (number - (track - self.spacing) / step)
                                                  / (2 * per_line)) * (step / SPEED)
        return Pulses(s, c, self.slope_along(channel), (c - track) / self.height, key, time, strip, channel)
