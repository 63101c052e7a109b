"""Families of natural texture: what a surface is drawn with, and drawn with again elsewhere.

A :class:`Texture` is a family with fixed parameters and a palette. Drawing it twice gives two pieces of the same
surface: this is how an object comes to have the statistics of its background.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from projects.camouflage.scenes.palettes import Palette, draw_palette
from projects.camouflage.scenes.spectra import band_noise, power_noise, smooth_noise

Parameters = dict[str, Any]
Size = tuple[int, int]


@dataclass(frozen=True)
class Texture:
    """A family of textures with its parameters and colours."""

    family: str
    parameters: Parameters
    palette: Palette

    def draw(self, rng: np.random.Generator, height: int, width: int, zoom: float = 1.0,
             angle: float = 0.0) -> np.ndarray:
        """Draw a piece of the surface: (H, W, 3) RGB, float32 in [0, 1].

        Args:
            rng: which piece.
            height, width: pixels.
            zoom: size of the features, in units of 1/256 of the shorter side of a picture that holds it all.
            angle: the texture is turned by this (radians).
        """
        image = FAMILIES[self.family][1](self.parameters, self.palette, rng, (height, width), zoom, angle)
        return np.clip(image, 0, 1, out=image)


def draw_texture(rng: np.random.Generator, family: str, palette: str) -> Texture:
    """Draw the parameters of a texture of ``family`` in the colours of ``palette``."""
    return Texture(family, FAMILIES[family][0](rng), draw_palette(rng, palette))


def mottle(image: np.ndarray, field: np.ndarray, strength: float) -> np.ndarray:
    """Multiply an image by 1 + strength * field."""
    return image * (1 + np.float32(strength) * field)[..., None]


def relief(height: np.ndarray, light: tuple[float, float], strength: float) -> np.ndarray:
    """Light and shade (H, W) around 1 of a height field lit from ``light`` (x, y)."""
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    slope = -(gx * np.float32(light[0]) + gy * np.float32(light[1]))
    return 1 + np.float32(strength) * slope / (np.abs(slope) + np.float32(1))


def _chroma(image: np.ndarray, rng: np.random.Generator, size: Size, strength: float) -> np.ndarray:
    """Let the colour wander: two soft fields, along red-green and blue-yellow."""
    a = smooth_noise(rng, *size, cells=rng.uniform(3, 14)) * np.float32(strength)
    b = smooth_noise(rng, *size, cells=rng.uniform(3, 14)) * np.float32(strength)
    image = image.copy()
    image[..., 0] += a
    image[..., 1] -= a * np.float32(0.5)
    image[..., 2] += b
    return image


# Noise: soil, moss, algae, rock from afar ---------------------------------------------------------------------------

def _noise_parameters(rng: np.random.Generator) -> Parameters:
    return dict(slope=rng.uniform(0.5, 1.3), stretch=rng.choice([1.0, rng.uniform(1.2, 2.5)]),
                contrast=rng.uniform(0.14, 0.28), chroma=rng.uniform(0, 0.06), bump=rng.uniform(0, 0.5),
                largest=rng.uniform(0.05, 0.6))


def _noise(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
           angle: float) -> np.ndarray:
    field = power_noise(rng, *size, p['slope'], angle, p['stretch'], min(p['largest'] * zoom, 0.8))
    image = palette.ramp(0.5 + p['contrast'] * field)
    bumps = power_noise(rng, *size, 0.9, angle, p['stretch'], 0.15)
    return mottle(_chroma(image, rng, size, p['chroma']), np.tanh(bumps), 0.4 * p['bump'])


# Grains: sand, snow, fine gravel ------------------------------------------------------------------------------------

def _grain_parameters(rng: np.random.Generator) -> Parameters:
    return dict(grain=rng.uniform(0.7, 2.6), contrast=rng.uniform(0.04, 0.22), drift=rng.uniform(0.02, 0.14),
                specks=rng.choice([0.0, rng.uniform(0.002, 0.03)]), dark=rng.random() < 0.7,
                ripple=rng.choice([0.0, 0.0, rng.uniform(0.05, 0.25)]), period=rng.uniform(12, 45))


def _grains(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
            angle: float) -> np.ndarray:
    h, w = size
    grain = max(p['grain'] * zoom, 0.6)
    fine = cv2.GaussianBlur(rng.standard_normal((h, w), dtype=np.float32), (0, 0), 0.45 * grain)
    fine /= max(float(fine.std()), 1e-6)
    field = 0.5 + p['contrast'] * fine + p['drift'] * power_noise(rng, h, w, 1.3)
    image = palette.ramp(field)
    if p['specks']:
        seeds = (rng.random((h, w), dtype=np.float32) < p['specks'] / grain ** 2).astype(np.float32)
        spots = cv2.GaussianBlur(cv2.dilate(seeds, np.ones((2, 2))), (0, 0), 0.35 * grain + 0.2)
        spots = np.minimum(spots * 1.5, 1)[..., None]
        image = image * (1 - spots) + spots * palette.colours[0 if p['dark'] else -1] * (0.6 if p['dark'] else 1.2)
    if p['ripple']:
        image = image * _waves(rng, size, p['period'] * zoom, angle, p['ripple'])[..., None]
    return _chroma(image, rng, size, 0.015)


def _waves(rng: np.random.Generator, size: Size, period: float, angle: float, strength: float) -> np.ndarray:
    """Ripple marks: bent, forking lines of light and shade around 1."""
    field = band_noise(rng, *size, max(period, 4), 0.35, angle, 4.0)
    return 1 + np.float32(strength) * np.tanh(field)


# Stones: gravel, pebbles, rubble (a Voronoi diagram whose cells are domes) ------------------------------------------

def _stone_parameters(rng: np.random.Generator) -> Parameters:
    return dict(cell=float(np.exp(rng.uniform(np.log(5), np.log(40)))), gap=rng.uniform(0.05, 0.3),
                dome=rng.uniform(0.3, 0.9), jitter=rng.uniform(0.02, 0.12), grainy=rng.uniform(0.03, 0.2),
                second=rng.choice([0.0, rng.uniform(0.2, 0.5)]), warp=rng.uniform(0, 0.3))


def _stones(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
            angle: float) -> np.ndarray:
    image = _stone_layer(p, palette, rng, size, max(p['cell'] * zoom, 3), angle)
    if p['second']:  # large stones here and there over small ones
        small = _stone_layer(p, palette, rng, size, max(p['cell'] * zoom * 0.35, 3), angle)
        here = smooth_noise(rng, *size, cells=5) > 0.1
        image = np.where(here[..., None], image, small)
    grain = power_noise(rng, *size, 0.6)
    return _chroma(mottle(image, grain, p['grainy']), rng, size, 0.02)


def _stone_layer(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, cell: float,
                 angle: float) -> np.ndarray:
    h, w = size
    margin = int(2 * cell) + 1
    high, wide = h + 2 * margin, w + 2 * margin
    count = max(int(high * wide / cell ** 2), 4)
    seeds = np.full((high, wide), 255, np.uint8)
    seeds[rng.integers(0, high, count), rng.integers(0, wide, count)] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    labels = labels[margin:margin + h, margin:margin + w]
    if p['warp']:
        wobble = [(np.arange(n, dtype=np.float32)[:, None] if axis == 0 else np.arange(n, dtype=np.float32)[None, :])
                  + smooth_noise(rng, h, w, max(h, w) / cell * 2) * np.float32(p['warp'] * cell)
                  for axis, n in enumerate((h, w))]
        labels = cv2.remap(labels.astype(np.float32), wobble[1], wobble[0], cv2.INTER_NEAREST,
                           borderMode=cv2.BORDER_REFLECT).astype(np.int32)
    edge = np.zeros((h, w), bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    inside = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 3)
    rise = np.minimum(inside / np.float32(0.5 * cell), 1)
    dome = np.sqrt(np.maximum(1 - (1 - rise) ** 2, 0))
    colours = palette.pick(rng, int(labels.max()) + 1, p['jitter'])
    light = (np.cos(angle - 2.0), np.sin(angle - 2.0))
    shade = relief(cv2.GaussianBlur(dome, (0, 0), max(cell * 0.06, 0.5)) * np.float32(cell), light, p['dome'])
    gap = np.clip(inside / np.float32(max(p['gap'] * cell * 0.5, 0.7)), 0.25, 1)
    return colours[labels] * (shade * gap)[..., None]


# Leaves: the dead-leaves model (Lee, Mumford & Huang 2001), sizes by a power law -------------------------------------

def _leaf_parameters(rng: np.random.Generator) -> Parameters:
    smallest = float(np.exp(rng.uniform(np.log(3), np.log(9))))
    return dict(smallest=smallest, largest=smallest * rng.uniform(2.5, 8), power=rng.uniform(2.0, 3.2),
                aspect=rng.uniform(0.2, 0.9), shape=str(rng.choice(['leaf', 'leaf', 'ellipse', 'lobed'])),
                vein=rng.random() < 0.6, shadow=rng.uniform(0, 0.7), jitter=rng.uniform(0.03, 0.10),
                order=rng.choice([np.pi, rng.uniform(0.3, 1.2)]), depth=rng.uniform(0.0, 0.6),
                grainy=rng.uniform(0.02, 0.15))


def leaf_outline(shape: str, points: int = 14) -> np.ndarray:
    """Outline (points, 2) of a leaf, length 2 along x, width 2 before its aspect is applied."""
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    x, y = np.cos(t), np.sin(t)
    if shape == 'leaf':
        y = y * (1 - 0.25 * x) * np.sqrt(np.abs(np.sin(t)) + 1e-3)
    elif shape == 'lobed':
        r = 0.75 + 0.25 * np.cos(5 * t)
        x, y = x * r, y * r
    return np.stack([x, y], -1)


def _leaves(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
            angle: float) -> np.ndarray:
    h, w = size
    low, high = max(p['smallest'] * zoom, 2.0), max(p['largest'] * zoom, 4.0)
    k = 1 - p['power']
    mean_area = 2.0 * p['aspect'] * _power_mean(low, high, p['power'])
    count = int(np.clip(3.2 * h * w / mean_area, 30, 1600))
    radius = (low ** k + rng.random(count) * (high ** k - low ** k)) ** (1 / k)
    centres = rng.uniform(-0.5 * low, 1, (count, 2)) * (w + low, h + low)
    turn = angle + rng.uniform(-p['order'], p['order'], count)
    aspect = p['aspect'] * rng.uniform(0.6, 1.2, count)
    outline = leaf_outline(p['shape'], 10 if high < 12 else 16)
    c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
    x, y = outline[None, :, 0] * radius[:, None], outline[None, :, 1] * (radius * aspect)[:, None]
    polygons = np.stack([x * c - y * s, x * s + y * c], -1) + centres[:, None]  # (count, points, 2)
    nearness = np.linspace(1 - p['depth'], 1, count)[:, None]
    colours = np.clip(palette.pick(rng, count, p['jitter']) * nearness * 255, 0, 255)
    image = np.empty((h, w, 3), np.uint8)
    image[:] = (palette.colours[0] * 120).astype(np.uint8)
    fixed = np.round(polygons * 16).astype(np.int32)
    tips = np.round((np.stack([c, s], -1) * radius[:, None, None])[:, 0] * 16 * 0.85).astype(np.int32)
    middles = np.round(centres * 16).astype(np.int32)
    drop = np.round(radius * 16 * 0.18).astype(np.int32)
    veined = p['vein'] and high > 6
    for i in range(count):
        colour = colours[i].tolist()
        if p['shadow'] and radius[i] > 4:
            dark = (colours[i] * (1 - p['shadow'])).tolist()
            cv2.fillConvexPoly(image, fixed[i] + drop[i], dark, cv2.LINE_AA, 4) if p['shape'] != 'lobed' else \
                cv2.fillPoly(image, [fixed[i] + drop[i]], dark, cv2.LINE_AA, 4)
        if p['shape'] == 'lobed':
            cv2.fillPoly(image, [fixed[i]], colour, cv2.LINE_AA, 4)
        else:
            cv2.fillConvexPoly(image, fixed[i], colour, cv2.LINE_AA, 4)
        if radius[i] > 5:  # one half of a leaf is lit otherwise than the other
            half = len(outline) // 2
            cv2.fillConvexPoly(image, fixed[i, :half + 1], (colours[i] * 0.88).tolist(), cv2.LINE_AA, 4)
            if veined:
                pale = np.minimum(colours[i] * 1.25 + 8, 255).tolist()
                cv2.line(image, (middles[i] - tips[i]).tolist(), (middles[i] + tips[i]).tolist(), pale, 1,
                         cv2.LINE_AA, 4)
    out = image.astype(np.float32) * np.float32(1 / 255)
    return _chroma(mottle(out, power_noise(rng, h, w, 0.8), p['grainy']), rng, size, 0.02)


def _power_mean(low: float, high: float, power: float) -> float:
    """Mean of r squared where r has density r ** -power between low and high."""
    def moment(n: float) -> float:
        e = n - power + 1
        return float(np.log(high / low)) if abs(e) < 1e-6 else (high ** e - low ** e) / e
    return moment(2) / moment(0)


# Blades: grass, needles, twigs, kelp, tentacles ---------------------------------------------------------------------

def _blade_parameters(rng: np.random.Generator) -> Parameters:
    return dict(length=rng.uniform(25, 110), thick=float(np.exp(rng.uniform(np.log(1), np.log(7)))),
                order=rng.choice([np.pi, rng.uniform(0.15, 0.8)]), bend=rng.uniform(0, 1.2), turn=rng.uniform(0, np.pi),
                jitter=rng.uniform(0.03, 0.1), cover=rng.uniform(0.6, 2.2), depth=rng.uniform(0.2, 0.8),
                round=rng.uniform(0.0, 0.5), wiggle=rng.choice([0.0, rng.uniform(0.1, 0.5)]))


def _blades(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
            angle: float) -> np.ndarray:
    h, w = size
    length, thick = p['length'] * zoom, max(p['thick'] * zoom, 1.0)
    count = int(np.clip(p['cover'] * h * w / (length * thick), 20, 700))
    centres = rng.uniform(-0.2, 1.2, (count, 2)) * (w, h)
    turn = angle + p['turn'] + rng.uniform(-p['order'], p['order'], count)
    bend = rng.normal(0, p['bend'], count)
    t = np.linspace(-0.5, 0.5, 9)
    lengths = length * np.exp(rng.normal(0, 0.35, count))
    heading = turn[:, None] + bend[:, None] * t[None] + p['wiggle'] * np.sin(
        2 * np.pi * (2 * t[None] + rng.random((count, 1))))
    step = lengths[:, None] / (len(t) - 1)
    path = np.stack([np.cumsum(np.cos(heading) * step, 1), np.cumsum(np.sin(heading) * step, 1)], -1)
    path = np.round((path - path[:, 4:5] + centres[:, None]) * 16).astype(np.int32)
    widths = np.maximum(np.round(thick * np.exp(rng.normal(0, 0.3, count))), 1).astype(int)
    nearness = np.linspace(1 - p['depth'], 1, count)[:, None]
    colours = np.clip(palette.pick(rng, count, p['jitter']) * nearness * 255, 0, 255)
    base = palette.ramp(0.25 + 0.12 * power_noise(rng, h, w, 1.2)) * np.float32((1 - p['depth']) * 0.9)
    image = np.clip(base * 255, 0, 255).astype(np.uint8)
    for i in range(count):
        if widths[i] >= 3:  # a round body: dark at its edges, light in the middle
            cv2.polylines(image, [path[i]], False, (colours[i] * (1 - p['round'])).tolist(), int(widths[i]),
                          cv2.LINE_AA, 4)
            shift = -int(widths[i] * 2)
            cv2.polylines(image, [path[i] + shift], False, colours[i].tolist(), max(int(widths[i] * 0.55), 1),
                          cv2.LINE_AA, 4)
        else:
            cv2.polylines(image, [path[i]], False, colours[i].tolist(), int(widths[i]), cv2.LINE_AA, 4)
    out = image.astype(np.float32) * np.float32(1 / 255)
    return mottle(out, power_noise(rng, h, w, 0.8), 0.06)


# Bark and rock: stretched, ridged noise with cracks -----------------------------------------------------------------

def _bark_parameters(rng: np.random.Generator) -> Parameters:
    return dict(stretch=rng.uniform(2.5, 8), slope=rng.uniform(0.7, 1.3), period=rng.uniform(8, 34),
                furrow=rng.uniform(0.15, 0.7), turn=np.pi / 2 + rng.normal(0, 0.3), contrast=rng.uniform(0.1, 0.24),
                lichen=rng.choice([0.0, rng.uniform(0.1, 0.6)]), grainy=rng.uniform(0.02, 0.15),
                lichen_colour=draw_palette(rng, str(rng.choice(['grey', 'moss', 'pale', 'gold']))))


def _rock_parameters(rng: np.random.Generator) -> Parameters:
    return dict(_bark_parameters(rng), stretch=rng.uniform(1.0, 2.0), period=rng.uniform(20, 80),
                turn=rng.uniform(0, np.pi), furrow=rng.uniform(0.05, 0.6))


def _bark(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
          angle: float) -> np.ndarray:
    h, w = size
    turn = angle + p['turn']
    field = power_noise(rng, h, w, p['slope'], turn, p['stretch'], 0.3)
    ridges = band_noise(rng, h, w, max(p['period'] * zoom, 4), 0.6, turn, p['stretch'])
    image = palette.ramp(0.5 + p['contrast'] * field)
    cracks = np.exp(-(ridges / np.float32(0.25)) ** 2)
    image = image * (1 - np.float32(p['furrow']) * cracks)[..., None]
    shade = relief(ridges * np.float32(2) + field, (np.cos(angle - 1), np.sin(angle - 1)), 0.5)
    image = image * shade[..., None]
    if p['lichen']:
        patch = power_noise(rng, h, w, 1.1, largest=0.25) - np.float32(2.2 * (1 - p['lichen']))
        patch = np.clip(patch * 2, 0, 1)[..., None]
        cover = p['lichen_colour'].ramp(0.5 + 0.15 * field)
        image = image * (1 - patch) + cover * patch
    return _chroma(mottle(image, power_noise(rng, h, w, 0.4), p['grainy']), rng, size, 0.02)


# Coral: thresholded band noise: branches or blobs over water --------------------------------------------------------

def _coral_parameters(rng: np.random.Generator) -> Parameters:
    return dict(period=float(np.exp(rng.uniform(np.log(8), np.log(40)))), octaves=rng.uniform(0.25, 0.8),
                net=rng.random() < 0.5, level=rng.uniform(-0.5, 0.5), behind=rng.uniform(0.1, 0.7),
                polyps=rng.choice([0.0, rng.uniform(0.1, 0.4)]), rough=rng.uniform(0.1, 0.5),
                water=draw_palette(rng, str(rng.choice(['deep', 'teal', 'night', 'olive', 'soil']))))


def _coral(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
           angle: float) -> np.ndarray:
    h, w = size
    field = band_noise(rng, h, w, max(p['period'] * zoom, 5), p['octaves'], angle, 1.3)
    field += np.float32(p['rough'] * 0.4) * power_noise(rng, h, w, 1.0, largest=0.1)
    height = (0.45 - np.abs(field) if p['net'] else field - p['level'] * 0.8).astype(np.float32)
    body = np.clip(height * 5, 0, 1)
    round_ = np.sqrt(np.clip(height, 0, 1))
    tone = 0.35 + 0.45 * round_ + 0.1 * power_noise(rng, h, w, 1.0, largest=0.2)
    coat = palette.ramp(tone) * relief(round_ * np.float32(p['period'] * 0.5), (np.cos(angle - 2), np.sin(angle - 2)),
                                       0.4)[..., None]
    if p['polyps']:
        dots = band_noise(rng, h, w, max(p['period'] * zoom * 0.25, 3), 0.3)
        coat = coat * (1 + np.float32(p['polyps']) * np.tanh(dots))[..., None]
    back = p['water'].ramp(0.4 + 0.15 * smooth_noise(rng, h, w, 6)) * np.float32(0.4 + p['behind'])
    return back * (1 - body[..., None]) + coat * body[..., None]


# Water: ripples with light nets; the open sea; the blur behind a plant ----------------------------------------------

def _ripple_parameters(rng: np.random.Generator) -> Parameters:
    return dict(period=rng.uniform(10, 40), strength=rng.uniform(0.1, 0.5), contrast=rng.uniform(0.06, 0.2),
                net=rng.choice([0.0, rng.uniform(0.1, 0.6)]))


def _ripples(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
             angle: float) -> np.ndarray:
    field = power_noise(rng, *size, 0.8)
    waves = _waves(rng, size, p['period'] * zoom, angle, p['strength'])
    image = palette.ramp(0.5 + p['contrast'] * field) * waves[..., None]
    if p['net']:
        image = image * caustics(rng, size, p['period'] * zoom * 1.5, p['net'])[..., None]
    return image


def caustics(rng: np.random.Generator, size: Size, period: float, strength: float) -> np.ndarray:
    """Net of light that waves throw on the ground, around 1."""
    field = np.abs(band_noise(rng, *size, max(period, 6), 0.5))
    net = np.exp(-(field / np.float32(0.3)) ** 2)
    return 1 + np.float32(strength) * (net - net.mean())


def _haze_parameters(rng: np.random.Generator) -> Parameters:
    return dict(slope=rng.uniform(1.6, 2.6), contrast=rng.uniform(0.1, 0.25), discs=int(rng.choice([0, 8, 30])),
                radius=rng.uniform(6, 26))


def _haze(p: Parameters, palette: Palette, rng: np.random.Generator, size: Size, zoom: float,
          angle: float) -> np.ndarray:
    h, w = size
    image = palette.ramp(0.5 + p['contrast'] * power_noise(rng, h, w, p['slope'], largest=0.7))
    if p['discs']:
        layer = image * np.float32(255)
        layer = np.clip(layer, 0, 255).astype(np.uint8)
        for x, y, r, colour in zip(rng.uniform(0, w, p['discs']), rng.uniform(0, h, p['discs']),
                                   p['radius'] * zoom * rng.uniform(0.5, 1.3, p['discs']),
                                   palette.pick(rng, p['discs'], 0.1) * 255, strict=True):
            cv2.circle(layer, (int(x), int(y)), max(int(r), 1), colour.tolist(), -1, cv2.LINE_AA)
        soft = cv2.GaussianBlur(layer.astype(np.float32), (0, 0), max(p['radius'] * zoom * 0.4, 1)) / 255
        image = 0.5 * image + 0.5 * soft.astype(np.float32)
    return image


Draw = Callable[[Parameters, Palette, np.random.Generator, Size, float, float], np.ndarray]
FAMILIES: dict[str, tuple[Callable[[np.random.Generator], Parameters], Draw]] = {
    'noise': (_noise_parameters, _noise), 'grains': (_grain_parameters, _grains),
    'stones': (_stone_parameters, _stones), 'leaves': (_leaf_parameters, _leaves),
    'blades': (_blade_parameters, _blades), 'bark': (_bark_parameters, _bark), 'rock': (_rock_parameters, _bark),
    'coral': (_coral_parameters, _coral), 'ripples': (_ripple_parameters, _ripples), 'haze': (_haze_parameters, _haze),
}
