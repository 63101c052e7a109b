"""Outlines of animals and people, drawn from a seed: fish, flatfish, snakes, lizards, insects, crabs, birds ...

A silhouette lives in a frame of its own: x along the body, y down, about 2 units long. `scene` turns, scales and
places it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Generator = np.random.Generator


@dataclass
class Silhouette:
    """An object's outline.

    Attributes:
        name: What it is meant to be.
        parts: Polygons (n, 2); the object is their union. The first is the body.
        eyes: x, y, radius of the eyes one might see.
        upright: It keeps its direction in a picture (a bird, a person); others lie anyhow.
    """

    name: str
    parts: list[np.ndarray]
    eyes: list[tuple[float, float, float]] = field(default_factory=list)
    upright: bool = False


def spine(rng: Generator, bend: float, points: int = 24, wiggle: float = 0.0) -> np.ndarray:
    """A bent line (points, 2) of length 2 around the origin."""
    t = np.linspace(0, 1, points)
    heading = bend * (t - 0.5) + wiggle * np.sin(2 * np.pi * (rng.uniform(0.8, 2) * t + rng.random()))
    step = 2 / (points - 1)
    line = np.stack([np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))], -1) * step
    return line - line.mean(0)


def tube(line: np.ndarray, left: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
    """Polygon around a line (n, 2) with half widths (n,) to its left and right."""
    right = left if right is None else right
    direction = np.gradient(line, axis=0)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-direction[:, 1], direction[:, 0]], -1)
    return np.concatenate([line + normal * left[:, None], (line - normal * right[:, None])[::-1]])


def ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0, points: int = 24) -> np.ndarray:
    """Polygon (points, 2) of an ellipse."""
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    c, s = np.cos(turn), np.sin(turn)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.stack([x + u * c - v * s, y + u * s + v * c], -1)


def limb(joints: list[tuple[float, float]], start: float, end: float) -> np.ndarray:
    """Tapered polygon along joints: a leg, an arm, a feeler."""
    line = np.array(joints, float)
    at = np.linspace(0, len(line) - 1, 5 * (len(line) - 1) + 1)
    line = np.stack([np.interp(at, np.arange(len(line)), line[:, c]) for c in range(2)], -1)
    return tube(line, np.linspace(start, end, len(line)))


def _profile(rng: Generator, points: int, thick: float, front: float, back: float) -> np.ndarray:
    """Half widths along a body: 0 at its ends, ``thick`` in the middle, blunt (small exponent) or pointed."""
    t = np.linspace(0, 1, points)
    peak = rng.uniform(0.3, 0.55)
    t = np.where(t < peak, t / peak * 0.5, 0.5 + (t - peak) / (1 - peak) * 0.5)
    rise = np.where(t < 0.5, np.sin(np.pi * t) ** front, np.sin(np.pi * t) ** back)
    return thick * np.maximum(rise, 0.03)


def _blob(rng: Generator) -> Silhouette:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    r = np.ones_like(t)
    for n in range(2, 9):
        r += rng.normal(0, rng.uniform(0.25, 0.5) / n ** 1.2) * np.cos(n * t + rng.uniform(0, 2 * np.pi))
    r = np.maximum(r, 0.25)
    return Silhouette('blob', [np.stack([r * np.cos(t), r * np.sin(t) * rng.uniform(0.45, 1)], -1)],
                      [(0.5, -0.1, 0.07), (0.5, 0.15, 0.07)])


def _fish(rng: Generator) -> Silhouette:
    line = spine(rng, rng.normal(0, 0.4))
    thick = rng.uniform(0.18, 0.5)
    body = tube(line, _profile(rng, len(line), thick, rng.uniform(0.5, 0.9), rng.uniform(0.8, 1.5)))
    tail, fork = line[-1], rng.uniform(-0.1, 0.25)
    spread, long = rng.uniform(0.15, 0.4), rng.uniform(0.25, 0.5)
    heading = np.arctan2(*(line[-1] - line[-3])[::-1])
    c, s = np.cos(heading), np.sin(heading)
    fan = np.array([(-0.15, -0.03), (long, -spread), (long - fork, 0), (long, spread), (-0.15, 0.03)])
    parts = [body, fan @ np.array([[c, s], [-s, c]]) + tail]
    for side in (-1, 1):
        if rng.random() < 0.8:
            a, n = sorted(rng.uniform(0.25, 0.85, 2)), rng.uniform(0.1, 0.3)
            i, j = int(a[0] * 23), min(int(a[1] * 23) + 4, 22)
            k = (i + j) // 2 + int(rng.integers(0, 3))
            parts.append(np.array([line[i] + (0, side * thick * 0.6), line[min(k, 23)] + (0.05, side * (thick + n)),
                                   line[j] + (0.08, side * thick * 0.7), line[j]]))
    return Silhouette('fish', parts, [(line[2, 0] + 0.08, line[2, 1] - thick * 0.25, 0.05)], rng.random() < 0.7)


def _flatfish(rng: Generator) -> Silhouette:
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    wide = rng.uniform(0.5, 0.95)
    fringe = 1 + rng.uniform(0, 0.04) * np.sign(np.sin(rng.integers(20, 40) * t))
    power = rng.uniform(0.75, 1.0)
    x, y = np.cos(t), np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power * wide
    parts = [np.stack([x * fringe, y * fringe], -1) * 0.85]
    n = rng.uniform(0.12, 0.3)
    parts.append(np.array([(-0.7, -0.1), (-1.05, -0.07), (-1.3, -n), (-1.33, n), (-1.05, 0.07), (-0.7, 0.1)]))
    return Silhouette('flatfish', parts, [(0.6, -0.12, 0.05), (0.65, 0.1, 0.05)])


def _ray(rng: Generator) -> Silhouette:
    a = rng.uniform(0.8, 1.1)
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    r = 1 / (np.abs(np.cos(t)) ** 1.3 + np.abs(np.sin(t)) ** 1.3) ** (1 / 1.3)
    body = np.stack([r * np.cos(t) * 0.75, r * np.sin(t) * a], -1)
    tail = spine(rng, rng.normal(0, 0.8)) * 0.7 + (-1.3, 0)
    return Silhouette('ray', [body, tube(tail, np.linspace(0.01, 0.06, len(tail)))],
                      [(0.35, -0.15, 0.05), (0.35, 0.15, 0.05)])


def _snake(rng: Generator) -> Silhouette:
    line = spine(rng, rng.normal(0, 1.5), 48, rng.uniform(0.2, 1.3))
    thick = rng.uniform(0.025, 0.09)
    widths = _profile(rng, 48, thick, 0.35, rng.uniform(0.35, 0.9))
    widths[:4] = np.maximum(widths[:4], thick * rng.uniform(0.8, 1.4))
    return Silhouette('snake', [tube(line, widths)], [(line[2, 0], line[2, 1], 0.02)])


def _legs(rng: Generator, x: float, side: int, root: float, reach: float, forward: float, thick: float,
          bend: float) -> np.ndarray:
    knee = (x + forward * 0.45 + rng.normal(0, 0.03), side * (root + reach * 0.55 + bend))
    foot = (x + forward + rng.normal(0, 0.05), side * (root + reach))
    return limb([(x, 0.0), knee, foot], thick, thick * 0.5)


def _lizard(rng: Generator) -> Silhouette:
    line = spine(rng, rng.normal(0, 0.7), 40, rng.uniform(0, 0.35))
    thick = rng.uniform(0.08, 0.2)
    t = np.linspace(0, 1, 40)
    widths = thick * (np.exp(-((t - 0.33) / 0.17) ** 2) + 0.75 * np.exp(-((t - 0.08) / 0.07) ** 2)
                      + 0.35 * np.clip(1 - t, 0, 1))
    widths[0] *= 0.4
    parts = [tube(line, np.maximum(widths, 0.012))]
    for at, forward in ((9, -0.15), (19, 0.2)):
        for side in (-1, 1):
            leg = _legs(rng, 0, side, 0, thick + rng.uniform(0.12, 0.3), forward * rng.uniform(0.4, 1.6), 0.045, 0.02)
            parts.append(leg + line[at])
            foot = leg[len(leg) // 2] + line[at]
            for turn in (-0.6, 0, 0.6):
                parts.append(limb([tuple(foot), (foot[0] - 0.09 * np.cos(turn), foot[1] + side * 0.09 * np.sin(turn))],
                                  0.016, 0.008))
    return Silhouette('lizard', parts, [(line[2, 0], line[2, 1] - thick * 0.4, 0.025),
                                        (line[2, 0], line[2, 1] + thick * 0.4, 0.025)])


def _frog(rng: Generator) -> Silhouette:
    fat = rng.uniform(0.45, 0.7)
    line = spine(rng, 0.0)
    parts = [tube(line, _profile(rng, 24, fat, 0.45, 0.6))]
    for side in (-1, 1):
        wide = rng.uniform(0.2, 0.5)
        parts.append(limb([(0.55, side * fat * 0.6), (0.15, side * (fat + wide)), (0.9, side * (fat + wide * 0.8)),
                           (1.15, side * (fat + wide * 1.3))], 0.17, 0.05))
        parts.append(limb([(-0.45, side * fat * 0.7), (-0.3, side * (fat + wide * 0.7)),
                           (-0.75, side * (fat + wide * 0.8))], 0.1, 0.05))
        parts.append(ellipse(-0.65, side * fat * 0.55, 0.13, 0.13))
    return Silhouette('frog', parts, [(-0.65, fat * 0.55, 0.09), (-0.65, -fat * 0.55, 0.09)])


def _insect(rng: Generator) -> Silhouette:
    fat = rng.uniform(0.1, 0.35)
    parts = [ellipse(0.35, 0, rng.uniform(0.45, 0.65), fat), ellipse(-0.3, 0, 0.3, fat * 0.8),
             ellipse(-0.7, 0, 0.18, fat * 0.6)]
    reach, thick = rng.uniform(0.25, 0.8), rng.uniform(0.012, 0.04)
    for x, forward in ((-0.45, -0.4), (-0.25, 0.1), (0.0, 0.5)):
        for side in (-1, 1):
            parts.append(_legs(rng, x, side, fat * 0.7, reach, forward, thick, 0.1))
    for side in (-1, 1):
        end = rng.uniform(0.3, 0.9)
        parts.append(limb([(-0.8, side * 0.05), (-0.8 - end * 0.6, side * 0.2),
                           (-0.8 - end, side * rng.uniform(0.1, 0.4))], 0.014, 0.008))
    return Silhouette('insect', parts, [(-0.78, fat * 0.4, 0.04), (-0.78, -fat * 0.4, 0.04)])


def _moth(rng: Generator) -> Silhouette:
    parts = [ellipse(0.05, 0, 0.6, rng.uniform(0.09, 0.16))]
    sweep, wide, long = rng.uniform(-0.5, 0.6), rng.uniform(0.7, 1.1), rng.uniform(0.4, 0.9)
    wave = rng.normal(0, 0.05, 3)
    for side in (-1, 1):
        fore = np.array([(-0.45, 0), (-0.5 + sweep * 0.4, 0.45 * wide), (-0.35 + sweep, wide),
                         (-0.05 + sweep + wave[0], wide * 0.95), (0.15 + sweep * 0.6 + wave[1], wide * 0.6), (0.25, 0)])
        hind = np.array([(-0.1, 0), (0.1, 0.55 * wide), (long * 0.7, 0.7 * wide + wave[2]), (long, 0.4 * wide),
                         (0.45, 0)])
        parts += [fore * (1, side), hind * (1, side)]
        parts.append(limb([(-0.5, side * 0.04), (-0.75, side * 0.18), (-0.95, side * 0.3)], 0.016, 0.01))
    eyes = [(0.0 + sweep * 0.4, 0.5 * wide, 0.08), (0.0 + sweep * 0.4, -0.5 * wide, 0.08)] if rng.random() < 0.4 else []
    return Silhouette('moth', parts, eyes)


def _crab(rng: Generator) -> Silhouette:
    fat = rng.uniform(0.4, 0.65)
    parts = [ellipse(0, 0, fat * rng.uniform(0.65, 0.9), fat)]
    for k in range(4):
        for side in (-1, 1):
            x = -0.3 + 0.2 * k
            parts.append(_legs(rng, x, side, fat * 0.7, rng.uniform(0.35, 0.7), (k - 1.3) * 0.28, 0.05, 0.12))
    for side in (-1, 1):
        hand = (-0.85, side * rng.uniform(0.15, 0.4))
        parts.append(limb([(-0.2, side * fat * 0.7), (-0.5, side * (fat + 0.12)), hand], 0.08, 0.07))
        parts.append(ellipse(*hand, 0.19, 0.1, side * 0.6))
    return Silhouette('crab', parts, [(-0.42, 0.14, 0.045), (-0.42, -0.14, 0.045)])


def _spider(rng: Generator) -> Silhouette:
    parts = [ellipse(0.3, 0, 0.38, rng.uniform(0.22, 0.32)), ellipse(-0.15, 0, 0.24, 0.18)]
    reach, thick = rng.uniform(0.6, 1.0), rng.uniform(0.015, 0.045)
    for forward in (-0.8, -0.3, 0.25, 0.8):
        for side in (-1, 1):
            parts.append(_legs(rng, -0.15, side, 0.1, reach * rng.uniform(0.85, 1.1), forward, thick, 0.12))
    return Silhouette('spider', parts, [])


def _bird(rng: Generator) -> Silhouette:
    fat = rng.uniform(0.3, 0.5)
    head = rng.uniform(0.2, 0.38)
    lean = rng.normal(0, 0.15)
    parts = [ellipse(0, 0.1, fat, 0.75, lean), ellipse(lean * -0.8, -0.62, head, head * rng.uniform(0.8, 1.05))]
    parts.append(np.array([(-0.12, 0.6), (0.12, 0.6), (0.1 + lean, rng.uniform(1.0, 1.5)), (-0.1 + lean, 1.2)]))
    if rng.random() < 0.4:
        for side in (-1, 1):
            x = lean * -0.8 + side * head * 0.7
            parts.append(np.array([(x - 0.1, -0.8), (x + side * 0.05, -1.1), (x + 0.1, -0.75)]))
    elif rng.random() < 0.6:
        side = rng.choice([-1, 1])
        parts.append(np.array([(side * head * 0.8 - lean, -0.7), (side * (head + 0.25) - lean, -0.6),
                               (side * head * 0.8 - lean, -0.55)]))
    x = lean * -0.8
    return Silhouette('bird', parts, [(x - head * 0.4, -0.66, head * 0.25), (x + head * 0.4, -0.66, head * 0.25)], True)


def _mammal(rng: Generator) -> Silhouette:
    fat, leg = rng.uniform(0.25, 0.42), rng.uniform(0.2, 0.7)
    line = spine(rng, rng.normal(0, 0.3)) * 0.8
    parts = [tube(line, _profile(rng, 24, fat, 0.4, 0.5))]
    x, y = -0.75 - rng.uniform(0.1, 0.3), -rng.uniform(0.05, 0.6)
    head = rng.uniform(0.17, 0.3)
    parts += [limb([(-0.5, -0.05), (x, y)], fat * 0.75, head * 0.7), ellipse(x - 0.08, y, head * 1.3, head * 0.9, 0.3)]
    for at in (x + head * 0.5, x + head * 0.1):
        tall = rng.uniform(0.15, 0.4)
        parts.append(np.array([(at - 0.08, y - head * 0.6), (at + 0.02, y - head * 0.7 - tall),
                               (at + 0.1, y - head * 0.4)]))
    for at in (-0.55, -0.4, 0.45, 0.6):
        parts.append(limb([(at, 0.1), (at + rng.normal(0, 0.06), fat * 0.8 + leg * 0.5),
                           (at + rng.normal(0, 0.08), fat * 0.8 + leg)], 0.12, 0.05))
    parts.append(limb([(0.7, -0.05), (0.95, rng.uniform(-0.4, 0.4)), (1.2, rng.uniform(-0.5, 0.5))], 0.06, 0.02))
    return Silhouette('mammal', parts, [(x - 0.1, y - 0.05, 0.045)], True)


def _head(rng: Generator) -> Silhouette:
    wide = rng.uniform(0.7, 1.0)
    parts = [ellipse(0, 0, wide, 0.85), np.array([(-0.8, 0.3), (-rng.uniform(0.9, 1.5), 2.2),
                                                   (rng.uniform(0.9, 1.5), 2.2), (0.8, 0.3)])]
    tall = rng.uniform(0.2, 0.75)
    for side in (-1, 1):
        parts.append(np.array([(side * wide * 0.85, -0.35), (side * wide * 0.8, -0.7 - tall),
                               (side * wide * 0.25, -0.7)]))
    return Silhouette('head', parts, [(-0.35 * wide, -0.1, 0.13), (0.35 * wide, -0.1, 0.13)], True)


def _person(rng: Generator) -> Silhouette:
    wide = rng.uniform(0.3, 0.5)
    lean = rng.normal(0, 0.1)
    body = np.array([(-0.1, -0.65), (-wide, -0.5), (-wide * 0.95, 0.15), (-wide * 0.8, 0.9), (-0.05, 0.95), (0, 0.4),
                     (0.05, 0.95), (wide * 0.8, 0.9), (wide * 0.95, 0.15), (wide, -0.5), (0.1, -0.65)])
    parts = [body, ellipse(lean, -0.85, 0.16, 0.2)]
    for side in (-1, 1):
        parts.append(limb([(side * wide * 0.85, -0.42), (side * (wide + rng.uniform(0, 0.25)), -0.05),
                           (side * rng.uniform(0.1, 0.6), rng.uniform(-0.2, 0.35))], 0.11, 0.07))
    if rng.random() < 0.4:
        parts.append(limb([(rng.uniform(-0.6, -0.3), 0.1), (rng.uniform(0.4, 0.8), -0.25)], 0.04, 0.03))
    return Silhouette('person', parts, [], True)


def _star(rng: Generator) -> Silhouette:
    arms = int(rng.choice([5, 5, 5, 6, 8]))
    parts = [ellipse(0, 0, 0.3, 0.3)]
    for k in range(arms):
        turn = 2 * np.pi * k / arms + rng.normal(0, 0.12)
        bend = turn + rng.normal(0, 0.35)
        r = rng.uniform(0.8, 1.1)
        parts.append(limb([(0, 0), (0.5 * np.cos(turn), 0.5 * np.sin(turn)), (r * np.cos(bend), r * np.sin(bend))],
                          rng.uniform(0.16, 0.24), 0.05))
    return Silhouette('star', parts)


def _octopus(rng: Generator) -> Silhouette:
    parts = [ellipse(-0.45, 0, 0.45, 0.36), ellipse(0, 0, 0.3, 0.26)]
    for turn in np.linspace(-1.4, 1.4, int(rng.integers(4, 8))):
        line = spine(rng, rng.normal(0, 1.8), 16, rng.uniform(0, 0.6)) * 0.5
        line -= line[0]
        c, s = np.cos(turn), np.sin(turn)
        parts.append(tube(line @ np.array([[c, s], [-s, c]]), np.linspace(0.12, 0.02, 16)))
    return Silhouette('octopus', parts, [(-0.05, -0.14, 0.05), (-0.05, 0.14, 0.05)])


def _stick(rng: Generator) -> Silhouette:
    line = spine(rng, rng.normal(0, 0.3))
    thick = rng.uniform(0.025, 0.07)
    parts = [tube(line, thick * (1 + 0.2 * rng.standard_normal(24)).clip(0.5, 1.6))]
    for at in (5, 8, 14):
        for side in (-1, 1):
            parts.append(_legs(rng, line[at, 0], side, 0, rng.uniform(0.15, 0.5), rng.normal(0, 0.4), 0.016, 0.05))
    return Silhouette('stick', parts)


def _bristly(rng: Generator) -> Silhouette:
    """A fish or a caterpillar with spines, flaps and weeds all over it."""
    base = (_fish, _snake, _blob, _lizard)[int(rng.integers(4))](rng)
    body = base.parts[0]
    at = rng.integers(0, len(body) - 1, int(rng.integers(14, 50)))
    out = body[at] - body.mean(0)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 0.2)
    ends = body[at] + out * rng.uniform(0.05, 0.28, (len(at), 1)) + rng.normal(0, 0.08, (len(at), 2))
    for a, b in zip(body[at], ends, strict=True):
        base.parts.append(limb([tuple(a), tuple(b)], rng.uniform(0.012, 0.05), 0.008))
    return Silhouette('bristly', base.parts, base.eyes)


SHAPES: dict[str, tuple[Callable[[Generator], Silhouette], float, float]] = {
    # maker, weight on land, weight in water
    'blob': (_blob, 1, 1), 'fish': (_fish, 0, 4), 'flatfish': (_flatfish, 0, 2.5), 'ray': (_ray, 0, 1),
    'snake': (_snake, 1, 1), 'lizard': (_lizard, 2, 0), 'frog': (_frog, 2, 0.2), 'insect': (_insect, 2, 0),
    'moth': (_moth, 2, 0), 'crab': (_crab, 0.3, 2), 'spider': (_spider, 1.2, 0.3), 'bird': (_bird, 2.5, 0),
    'mammal': (_mammal, 2, 0), 'head': (_head, 1, 0.3), 'person': (_person, 1.2, 0), 'star': (_star, 0, 1),
    'octopus': (_octopus, 0, 1.2), 'stick': (_stick, 0.8, 0.2), 'bristly': (_bristly, 0.6, 2),
}
COMPACT = ('blob', 'flatfish', 'head', 'bird', 'frog', 'moth', 'fish', 'person', 'mammal', 'crab')


def rounded(polygon: np.ndarray, times: int = 2) -> np.ndarray:
    """Cut the corners of a polygon (n, 2), n < 12: nothing that lives is angular (Chaikin 1974)."""
    if len(polygon) >= 12:
        return polygon
    for _ in range(times):
        after = np.roll(polygon, -1, 0)
        polygon = np.stack([0.8 * polygon + 0.2 * after, 0.2 * polygon + 0.8 * after], 1).reshape(-1, 2)
    return polygon


def rough(rng: Generator, polygon: np.ndarray, amplitude: float, spacing: float = 0.03) -> np.ndarray:
    """Resample a polygon every ``spacing`` and shake its points: fur, feathers, skin flaps."""
    closed = np.concatenate([polygon, polygon[:1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.linspace(0, along[-1], max(int(along[-1] / spacing), 8), endpoint=False)
    points = np.stack([np.interp(at, along, closed[:, c]) for c in range(2)], -1)
    shake = rng.normal(0, amplitude, points.shape)
    return points + shake + np.roll(shake, 1, 0)


def draw_silhouette(rng: Generator, aquatic: bool, share: float) -> Silhouette:
    """Draw an animal of the land or the water; one that covers much of a picture has a compact body."""
    names = [n for n in SHAPES if (share < 0.15 or n in COMPACT) and (share > 0.05 or n != 'head')]
    weights = np.array([SHAPES[n][2 if aquatic else 1] for n in names])
    shape = SHAPES[str(rng.choice(names, p=weights / weights.sum()))][0](rng)
    shape.parts = [rounded(part) for part in shape.parts]
    amplitude = rng.uniform(0.002, 0.014)
    if rng.random() < 0.4:
        shape.parts = [rough(rng, part, amplitude) for part in shape.parts]
    return shape
