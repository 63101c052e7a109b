"""How ground, plants and roofs look: display colours (R, G, B, NIR), texture and the height of plants.

Classes share their colours on purpose. Meadow, rough grass, gardens and crops all draw their tone from one scale
between lush green and straw, roofs share theirs with soil and roads; what tells them apart is texture, shape and
neighbourhood.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from projects.scenes.layout import Area
from projects.scenes.noise import hash01
from projects.scenes.vegetation import BROADLEAF, CONIFER, FRUIT, POPLAR, SHRUB

SEASONS: tuple[str, ...] = ('summer', 'autumn', 'spring')

LUSH = np.array([84, 116, 62, 178], np.float32)
STRAW = np.array([178, 164, 118, 152], np.float32)
SOIL = np.array([158, 134, 106, 148], np.float32)

# kind: range of vigour (0 straw, 1 lush) in summer, its change in autumn and in spring, range of brightness
_GREENS: dict[str, tuple[float, float, float, float, float, float]] = {
    'verge': (0.35, 0.7, 0.0, 0.15, 0.9, 1.1),
    'mown': (0.3, 1.0, 0.05, 0.1, 0.86, 1.14),
    'pasture': (0.2, 0.95, 0.05, 0.12, 0.86, 1.12),
    'orchard': (0.35, 0.95, 0.05, 0.1, 0.88, 1.1),
    'rough': (0.15, 0.85, -0.08, 0.1, 0.84, 1.1),
    'forest_floor': (0.3, 0.6, -0.1, 0.1, 0.7, 0.85),
    'lawn': (0.25, 1.0, 0.05, 0.1, 0.86, 1.14),
    'beds': (0.4, 1.0, -0.2, -0.1, 0.85, 1.1),
    'wheat': (-0.15, 0.3, 0.5, 0.75, 0.92, 1.16),
    'barley': (0.0, 0.5, 0.3, 0.5, 0.9, 1.14),
    'maize': (0.65, 1.05, -0.55, -0.5, 0.82, 1.04),
    'beet': (0.55, 1.05, -0.1, -0.4, 0.88, 1.1),
    'rapeseed': (0.15, 0.6, 0.4, 0.1, 0.9, 1.12),
    'alfalfa': (0.5, 1.0, 0.0, 0.0, 0.86, 1.12),
    'vineyard': (0.45, 0.9, -0.35, -0.1, 0.85, 1.05),
}

# kind: tones to choose from (R, G, B, NIR), range of brightness
_MINERALS: dict[str, tuple[tuple[tuple[float, float, float, float], ...], float, float]] = {
    'ploughed': (((148, 120, 92, 132), (162, 138, 108, 148), (134, 108, 88, 122)), 0.85, 1.1),
    'harrowed': (((172, 150, 120, 160), (158, 132, 104, 146), (182, 156, 132, 168)), 0.88, 1.1),
    'stubble': (((186, 168, 122, 168), (170, 152, 112, 160), (162, 150, 106, 164)), 0.88, 1.12),
    'rough_ground': (((184, 164, 134, 172), (168, 146, 118, 158), (190, 180, 158, 178)), 0.86, 1.12),
    'shoulder': (((160, 150, 122, 156),), 0.95, 1.05),
    'track': (((186, 170, 140, 172), (170, 152, 124, 160), (176, 168, 152, 168)), 0.88, 1.1),
    'garden_path': (((188, 178, 160, 176), (170, 158, 146, 164)), 0.9, 1.1),
    'asphalt': (((122, 120, 122, 118), (138, 136, 136, 132), (104, 103, 106, 102), (152, 148, 144, 146)), 0.92, 1.08),
    'pavement': (((158, 154, 150, 152), (170, 164, 156, 164)), 0.94, 1.06),
    'paving': (((182, 172, 158, 174), (170, 150, 136, 160), (158, 154, 150, 154)), 0.88, 1.1),
    'gravel': (((192, 180, 158, 182), (178, 164, 142, 170), (168, 162, 152, 164)), 0.88, 1.1),
    'asphalt_yard': (((124, 122, 124, 120), (142, 139, 138, 136)), 0.9, 1.1),
    'marking': (((224, 224, 222, 210),), 1.0, 1.0),
    'stream': (((66, 78, 66, 40),), 0.85, 1.1),
    'pond': (((62, 80, 72, 34), (80, 88, 68, 42), (50, 68, 72, 28)), 0.85, 1.1),
    'pool': (((104, 178, 196, 64), (120, 194, 204, 70)), 0.95, 1.05),
    'track_grass': (((138, 140, 94, 158), (150, 142, 104, 156)), 0.92, 1.06),
}

_TREES: dict[str, dict[int, tuple[tuple[float, float, float, float], ...]]] = {
    'summer': {
        BROADLEAF: ((80, 106, 58, 172), (96, 118, 62, 180), (72, 96, 60, 164), (104, 116, 70, 168)),
        CONIFER: ((62, 84, 60, 130), (72, 92, 62, 140)),
        FRUIT: ((104, 124, 76, 174), (92, 112, 64, 170)),
        SHRUB: ((104, 112, 70, 158), (120, 122, 80, 160), (88, 102, 60, 152)),
        POPLAR: ((98, 118, 70, 176),),
    },
    'autumn': {
        BROADLEAF: ((160, 116, 62, 160), (140, 120, 62, 164), (112, 112, 62, 162), (152, 98, 58, 150),
                    (92, 102, 60, 158)),
        CONIFER: ((62, 84, 60, 130), (72, 92, 62, 140)),
        FRUIT: ((146, 122, 70, 160), (116, 116, 66, 162)),
        SHRUB: ((132, 114, 74, 146), (112, 108, 68, 150), (146, 116, 76, 144)),
        POPLAR: ((176, 152, 70, 168),),
    },
    'spring': {
        BROADLEAF: ((114, 138, 72, 188), (96, 124, 64, 180), (128, 146, 82, 190), (136, 128, 100, 156)),
        CONIFER: ((62, 84, 60, 130), (72, 92, 62, 140)),
        FRUIT: ((206, 192, 188, 196), (122, 142, 84, 184)),
        SHRUB: ((112, 124, 72, 164), (126, 130, 88, 160)),
        POPLAR: ((128, 140, 80, 182),),
    },
}


# Noise that textures, crops and crowns share, from above and under the laser: size in metres and salt
NOISES: dict[str, tuple[float, int]] = {'grain': (0.6, 1), 'fine': (1.3, 2), 'leaf': (1.9, 6), 'mid': (4.0, 3),
                                        'large': (16.0, 4), 'huge': (70.0, 5)}


@dataclass(frozen=True, eq=False)
class Fields:
    """Noise in [-0.5, 0.5] at the pixels of one kind (1-D arrays), and their position along and across the rows."""

    grain: np.ndarray  # 0.6 m
    fine: np.ndarray  # 1.3 m
    mid: np.ndarray  # 4 m
    large: np.ndarray  # 16 m
    huge: np.ndarray  # 70 m
    along: np.ndarray  # metres along the area's direction
    across: np.ndarray  # metres across it
    pick: np.ndarray  # the area's own random number in [0, 1)
    resolution: float


@dataclass(eq=False)
class Look:
    """What a kind answers: relative brightness, change of vigour, height of plants (share), share of bare soil."""

    light: np.ndarray | float = 1.0
    vigour: np.ndarray | float = 0.0
    plants: np.ndarray | float = 1.0
    soil: np.ndarray | float = 0.0


def _wave(u: np.ndarray, period: np.ndarray | float) -> np.ndarray:
    """Triangle wave of ``u`` in [-1, 1]; fades are cheap and exact where a sine would not be."""
    phase = u / period
    return (np.abs((phase - np.floor(phase)) - 0.5) * 4 - 1).astype(np.float32)


def _smooth(period: np.ndarray | float, resolution: float) -> np.ndarray:
    """Contrast left of a pattern of that period when a pixel averages it."""
    return np.clip((period / resolution - 1.2) / 2.5, 0, 1).astype(np.float32)


def _tramlines(f: Fields) -> np.ndarray:
    """1 in the wheel tracks that a sprayer leaves every 18 to 27 metres."""
    swath = 18 + 9 * f.pick
    u = f.across + f.pick * 100
    u = u - np.floor(u / swath) * swath
    wide = max(0.28, 0.5 * f.resolution)
    return ((np.abs(u - 3) < wide) | (np.abs(u - 4.9) < wide)).astype(np.float32)


def _mown(f: Fields) -> Look:
    width = 3.2 + 3.4 * f.pick
    swath = np.sign(_wave(f.across, width * 2))
    strength = np.where(f.pick > 0.35, 0.045, 0.012)
    return Look(1 + strength * swath + 0.10 * f.grain + 0.07 * f.large, 0.26 * f.large + 0.2 * f.huge, 0.6)


def _pasture(f: Fields) -> Look:
    return Look(1 + 0.14 * f.grain + 0.10 * f.fine + 0.06 * f.large, 0.36 * f.large + 0.28 * f.mid + 0.2 * f.huge)


def _orchard(f: Fields) -> Look:
    return Look(1 + 0.13 * f.grain + 0.04 * _wave(f.across, 7.0), 0.3 * f.large + 0.2 * f.mid)


def _rough(f: Fields) -> Look:
    tussock = f.fine + 0.7 * f.mid
    dark = np.clip(tussock - 0.28, 0, 1) * 1.1
    return Look(1 + 0.34 * f.grain + 0.26 * f.fine - dark, 0.75 * f.mid + 0.55 * f.large + 0.35 * f.fine,
                np.clip(0.7 + 1.2 * tussock, 0.1, 1.6))


def _floor(f: Fields) -> Look:
    return Look(0.92 + 0.3 * f.grain + 0.2 * f.mid, 0.5 * f.mid, 1.0, 0.25)


def _lawn(f: Fields) -> Look:
    stripe = np.where(f.pick > 0.6, 0.03, 0.0) * np.sign(_wave(f.across, 2.4))
    return Look(1 + 0.10 * f.grain + 0.08 * f.fine + stripe, 0.34 * f.large + 0.25 * f.mid)


def _beds(f: Fields) -> Look:
    row = _wave(f.across, 2.4) * _smooth(2.4, f.resolution)
    plot = hash01(np.floor(f.along / 3.5), np.floor(f.across / 2.4), 11) - 0.5
    return Look(1 + 0.2 * f.grain + 0.4 * plot, 0.8 * plot, 0.5 + 0.5 * row, np.clip(0.45 - 0.6 * row - plot, 0, 1))


def _cereal(f: Fields) -> Look:
    drill = 1.1 + 0.8 * f.pick
    row = _wave(f.across, drill) * _smooth(drill, f.resolution)
    tracks = _tramlines(f)
    lodged = np.clip(f.large + f.mid * 0.5 - 0.33, 0, 1) * (f.pick > 0.4)
    return Look(1 + 0.035 * row + 0.08 * f.grain + 0.05 * f.huge - 0.14 * tracks + 0.3 * lodged,
                0.22 * f.huge + 0.14 * f.large, 1 - 0.8 * tracks - 0.8 * lodged, 0.5 * tracks)


def _rows(f: Fields) -> Look:
    period = 1.6 + 0.9 * f.pick
    row = _wave(f.across, period) * _smooth(period, f.resolution)
    gap = np.clip(f.large + 0.6 * f.mid - 0.38, 0, 1) * 1.5
    return Look(1 + 0.11 * row + 0.12 * f.grain + 0.05 * f.huge, 0.25 * f.huge + 0.2 * f.large,
                np.clip(0.86 + 0.14 * row - gap, 0, 1), np.clip(0.14 - 0.22 * row + gap, 0, 0.8))


def _broadcast_crop(f: Fields) -> Look:
    tracks = _tramlines(f)
    return Look(1 + 0.09 * f.grain + 0.05 * f.large - 0.12 * tracks, 0.3 * f.huge + 0.2 * f.large, 1 - 0.8 * tracks,
                0.35 * tracks)


def _vineyard(f: Fields) -> Look:
    period = 2.4 + 0.8 * f.pick
    phase = f.across / period - np.floor(f.across / period)
    vine = (np.abs(phase - 0.5) < 0.24).astype(np.float32)
    missing = (hash01(np.floor(f.along / 1.3), np.floor(f.across / period), 5) < 0.06).astype(np.float32)
    vine = vine * (1 - missing)
    strength = _smooth(period, f.resolution)
    vine = vine * strength + 0.48 * (1 - strength)
    return Look(0.98 + 0.16 * f.grain - 0.14 * vine, 0.25 * f.large - 0.2 * (1 - vine), vine,
                (1 - vine) * np.where(f.pick > 0.5, 0.85, 0.3))


def _ploughed(f: Fields) -> Look:
    period = 1.4 + 1.0 * f.pick
    furrow = _wave(f.across, period) * _smooth(period, f.resolution)
    return Look(1 + 0.09 * furrow + 0.16 * f.grain + 0.2 * f.huge + 0.12 * f.large, 0, 0.5 + 0.5 * furrow)


def _harrowed(f: Fields) -> Look:
    pass_ = np.sign(_wave(f.across, 8.0 + 4 * f.pick))
    return Look(1 + 0.02 * pass_ + 0.09 * f.grain + 0.2 * f.huge + 0.14 * f.large)


def _stubble(f: Fields) -> Look:
    swath = _wave(f.across, 5.5 + 2.5 * f.pick)
    return Look(1 + 0.07 * np.clip(swath * 2, -1, 1) + 0.13 * f.grain + 0.08 * f.huge)


def _rough_ground(f: Fields) -> Look:
    return Look(1 + 0.2 * f.grain + 0.22 * f.mid + 0.2 * f.large + 0.1 * f.fine, 0, 1.0)


def _track(f: Fields) -> Look:
    return Look(1 + 0.14 * f.grain + 0.14 * f.mid + 0.1 * f.large)


def _asphalt(f: Fields) -> Look:
    worn = 0.12 * f.huge + 0.09 * f.large
    patch = (hash01(np.floor(f.along / 9), np.floor(f.across / 4), 3) > 0.93) * 0.12
    return Look(1 + 0.05 * f.grain + 0.05 * f.mid + worn - patch)


def _paved(f: Fields) -> Look:
    slab = hash01(np.floor(f.along / 1.5), np.floor(f.across / 1.5), 9) - 0.5
    return Look(1 + 0.08 * f.grain + 0.07 * slab + 0.12 * f.mid + 0.08 * f.large)


def _gravel(f: Fields) -> Look:
    return Look(1 + 0.14 * f.grain + 0.12 * f.mid + 0.1 * f.large)


def _water(f: Fields) -> Look:
    return Look(1 + 0.03 * f.fine + 0.10 * f.large + 0.14 * f.huge)


def _plain(f: Fields) -> Look:
    return Look(1 + 0.05 * f.grain)


LOOKS: dict[str, Callable[[Fields], Look]] = {
    'verge': _pasture, 'mown': _mown, 'pasture': _pasture, 'orchard': _orchard, 'rough': _rough,
    'forest_floor': _floor, 'lawn': _lawn, 'beds': _beds, 'wheat': _cereal, 'barley': _cereal, 'maize': _rows,
    'beet': _rows, 'rapeseed': _broadcast_crop, 'alfalfa': _broadcast_crop, 'vineyard': _vineyard,
    'ploughed': _ploughed, 'harrowed': _harrowed, 'stubble': _stubble, 'rough_ground': _rough_ground,
    'shoulder': _gravel, 'track': _track, 'track_grass': _pasture, 'garden_path': _gravel, 'asphalt': _asphalt,
    'pavement': _paved, 'paving': _paved, 'gravel': _gravel, 'asphalt_yard': _asphalt, 'marking': _plain,
    'stream': _water, 'pond': _water, 'pool': _plain,
}
KINDS: tuple[str, ...] = tuple(LOOKS)


@dataclass(frozen=True, eq=False)
class Tone:
    """Mean look of one area: ``colour`` (R, G, B, NIR) of minerals and water, ``vigour`` and ``light`` of plants."""

    colour: np.ndarray
    vigour: float
    light: float
    green: bool
    pick: float


def area_tone(area: Area, season: str) -> Tone:
    """Tone of an area in a season: the same area and season always give the same one."""
    rng = np.random.default_rng([area.seed, 77])
    pick, where, bright = float(rng.random()), float(rng.random()), float(rng.random())
    tint = rng.uniform(0.96, 1.04, 4).astype(np.float32)
    if area.kind in _GREENS:
        low, high, autumn, spring, dim, light = _GREENS[area.kind]
        vigour = low + (high - low) * where + {'summer': 0.0, 'autumn': autumn, 'spring': spring}[season]
        colour = tint.copy()
        if area.kind == 'rapeseed' and season == 'spring':
            colour *= np.array([1.28, 1.18, 0.55, 1.05], np.float32)
        return Tone(colour, vigour, dim + (light - dim) * bright, True, pick)
    tones, dim, light = _MINERALS[area.kind]
    colour = np.array(tones[int(where * len(tones)) % len(tones)], np.float32) * tint
    return Tone(colour, 0.0, dim + (light - dim) * bright, False, pick)


def tree_tone(kind: int, seed: int, season: str) -> np.ndarray:
    """Display colour (4,) of one tree."""
    tones = _TREES[season][kind]
    h = hash01(np.array([seed, seed + 1, seed + 2]), np.array([1, 2, 3]), 13)
    colour = np.array(tones[int(h[0] * len(tones)) % len(tones)], np.float32)
    return colour * np.float32(0.86 + 0.28 * h[1]) * np.array([0.94 + 0.12 * h[2], 1, 1, 1], np.float32)
