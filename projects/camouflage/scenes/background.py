"""Backgrounds: one to three surfaces on land or under water, and the loose things that lie about on them."""

from dataclasses import dataclass

import cv2
import numpy as np

from projects.camouflage.scenes.raster import Light, cover, dome, drop_shadow, fill, place, shading
from projects.camouflage.scenes.silhouettes import ellipse, limb, spine, tube
from projects.camouflage.scenes.spectra import power_noise, smooth_noise
from projects.camouflage.scenes.textures import Texture, draw_texture, leaf_outline

# family, palettes, weight
SURFACES: dict[str, list[tuple[str, tuple[str, ...], float]]] = {
    'terrestrial': [
        ('leaves', ('green', 'green', 'moss', 'autumn', 'dry', 'brown'), 4), ('blades', ('green', 'dry', 'brown'), 2.5),
        ('bark', ('brown', 'grey', 'soil', 'rust'), 3), ('rock', ('grey', 'brown', 'rust', 'slate'), 2),
        ('noise', ('soil', 'moss', 'brown', 'green', 'grey'), 2.5), ('stones', ('grey', 'brown', 'sand', 'soil'), 1.5),
        ('grains', ('sand', 'soil', 'gold', 'snow', 'grey'), 2), ('haze', ('green', 'dry', 'night', 'autumn'), 0.5)],
    'aquatic': [
        ('grains', ('sand', 'pale', 'teal', 'gold', 'grey'), 3), ('ripples', ('sand', 'teal', 'pale'), 1.5),
        ('coral', ('reef', 'reef', 'violet', 'pale', 'gold', 'olive', 'sand', 'brown'), 4),
        ('noise', ('olive', 'sand', 'violet', 'pale', 'teal', 'rust'), 3),
        ('stones', ('sand', 'olive', 'grey', 'grey', 'violet'), 2),
        ('blades', ('olive', 'violet', 'reef', 'pale'), 1.5), ('rock', ('olive', 'violet', 'slate', 'rust'), 2),
        ('leaves', ('olive', 'reef', 'teal'), 1),
        ('haze', ('deep', 'teal'), 0.5)],
}
KINDS = tuple(SURFACES)


@dataclass
class Background:
    """A drawn background.

    Attributes:
        image: (H, W, 3) reflectance, RGB in [0, 1].
        textures: The surfaces in it.
        owner: (H, W) uint8, which of them is at a pixel.
        zoom, angle: Size and direction they were drawn with.
    """

    image: np.ndarray
    textures: list[Texture]
    owner: np.ndarray
    zoom: float
    angle: float


def _surface(rng: np.random.Generator, kind: str) -> Texture:
    table = SURFACES[kind]
    weights = np.array([weight for _, _, weight in table])
    family, palettes, _ = table[int(rng.choice(len(table), p=weights / weights.sum()))]
    return draw_texture(rng, family, str(rng.choice(palettes)))


def _soft_step(field: np.ndarray, softness: float) -> np.ndarray:
    return np.clip(field / np.float32(2 * softness) + np.float32(0.5), 0, 1)


def _regions(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Where the second surface is: (H, W) in [0, 1]; half planes, bands (trunks, logs), patches."""
    y = (np.arange(h, dtype=np.float32) / h - 0.5)[:, None]
    x = (np.arange(w, dtype=np.float32) / w - 0.5)[None, :]
    form = rng.random()
    wobble = rng.uniform(0.02, 0.12) * power_noise(rng, h, w, 1.6)
    softness = rng.uniform(0.004, 0.05)
    if form < 0.35:
        turn = rng.uniform(0, 2 * np.pi)
        return _soft_step(x * np.cos(turn) + y * np.sin(turn) + rng.uniform(-0.2, 0.2) + wobble, softness)
    if form < 0.65:
        turn = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]) + rng.normal(0, 0.15)
        away = np.abs(x * np.cos(turn) + y * np.sin(turn) + rng.normal(0, 0.15) + wobble * 0.4)
        return _soft_step(away - np.float32(rng.uniform(0.12, 0.3)), softness)
    return _soft_step(0.35 * smooth_noise(rng, h, w, rng.uniform(2, 6)) + wobble * 0.7, softness * 2)


def draw_background(rng: np.random.Generator, kind: str, h: int, w: int, light: Light) -> Background:
    """Draw a background of ``kind`` with its loose things."""
    unit = min(h, w) / 256
    zoom = unit * float(np.exp(rng.uniform(-0.85, 0.6)))
    angle = float(rng.normal(0, 0.5))
    textures = [_surface(rng, kind)]
    image = textures[0].draw(rng, h, w, zoom, angle)
    owner = np.zeros((h, w), np.uint8)
    if rng.random() < 0.5:
        textures.append(_surface(rng, kind))
        second = textures[1].draw(rng, h, w, zoom * float(np.exp(rng.normal(0, 0.3))), angle)
        if rng.random() < 0.35:  # out of focus, farther away, darker or hazier
            second = cv2.GaussianBlur(second, (0, 0), rng.uniform(1.5, 7) * unit) * np.float32(rng.uniform(0.5, 1.1))
        where = _regions(rng, h, w)
        if rng.random() < 0.5:  # the nearer surface throws a shadow on the other
            edge = cv2.GaussianBlur(where, (0, 0), rng.uniform(2, 8) * unit)
            second = second * (1 - rng.uniform(0.1, 0.6) * 2 * np.abs(np.minimum(edge, 0.5) - 0.5))[..., None]
        image = image * (1 - where[..., None]) + second * where[..., None]
        owner = (where > 0.5).astype(np.uint8)
    if rng.random() < 0.6:  # large soft differences: stains, damp, wear
        image = image * np.exp(rng.uniform(0.05, 0.35) * power_noise(rng, h, w, 1.7))[..., None]
    if rng.random() < 0.5:
        image = image * (1 + rng.uniform(0.02, 0.13) * power_noise(rng, h, w, 0.5))[..., None]
    if rng.random() < 0.5:
        for _ in range(int(np.exp(rng.uniform(0, 3)))):
            _thing(rng, image, textures, zoom, light)
    return Background(np.clip(image, 0, 1), textures, owner, zoom, angle)


def thing_outline(rng: np.random.Generator) -> np.ndarray:
    """Outline of what lies about: a stone, a leaf, a twig, a blade; about 2 units long."""
    form = rng.random()
    if form < 0.35:
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        r = 1 + sum(rng.normal(0, 0.22 / n) * np.cos(n * t + rng.uniform(0, 6.3)) for n in range(2, 6))
        return np.stack([r * np.cos(t), r * np.sin(t) * rng.uniform(0.5, 1)], -1)
    if form < 0.6:
        return leaf_outline('leaf', 24) * (1, rng.uniform(0.25, 0.6))
    line = spine(rng, rng.normal(0, 0.8), 20, rng.uniform(0, 0.3)) * rng.uniform(1, 2.5)
    return tube(line, rng.uniform(0.03, 0.14) * np.linspace(1, rng.uniform(0.2, 1), 20))


def _thing(rng: np.random.Generator, image: np.ndarray, textures: list[Texture], zoom: float,
           light: Light) -> None:
    """Lay one thing on ``image``, in place."""
    h, w = image.shape[:2]
    unit = min(h, w) / 256
    long = min(h, w) * float(np.exp(rng.uniform(np.log(0.015), np.log(0.22))))
    if rng.random() < 0.12:  # a branch across the picture
        line = spine(rng, rng.normal(0, 0.5), 24, rng.uniform(0, 0.3))
        outline, long = tube(line, rng.uniform(0.01, 0.05) * np.linspace(1, 0.5, 24)), max(h, w) * 0.9
    else:
        outline = thing_outline(rng)
    outline = place(outline, long, rng.uniform(0, 2 * np.pi), rng.uniform(0, 1, 2) * (w, h))
    pad = int(12 * unit) + 2
    x0, y0 = np.clip(np.floor(outline.min(0)).astype(int) - pad, 0, (w, h))
    x1, y1 = np.clip(np.ceil(outline.max(0)).astype(int) + pad, 0, (w, h))
    if min(x1 - x0, y1 - y0) < 4:
        return
    window, size = (slice(y0, y1), slice(x0, x1)), (y1 - y0, x1 - x0)
    alpha = fill([outline - (x0, y0)], *size)
    texture = textures[int(rng.integers(len(textures)))]
    if rng.random() < 0.5:
        coat = texture.draw(rng, *size, zoom * rng.uniform(0.4, 1.2), rng.uniform(0, 3))
    else:
        tone, turn = rng.uniform(0.25, 0.75), rng.uniform(0, 3)
        coat = texture.palette.ramp(tone + 0.15 * power_noise(rng, *size, 1.0, turn, 2.0))
    coat = coat * np.float32(np.exp(rng.normal(0, 0.25)))
    coat = coat * shading(dome(alpha), light, rng.uniform(0.2, 0.7))[..., None]
    ground = drop_shadow(image[window], alpha, light, rng.uniform(1, 6) * unit, rng.uniform(0.1, 0.6))
    image[window] = cover(ground, coat, alpha)


def occluder_parts(rng: np.random.Generator) -> list[np.ndarray]:
    """Polygons in an object's frame that hide a part of it: leaves, blades, a twig, sand at its rim."""
    parts = []
    form = rng.random()
    for _ in range(int(rng.integers(1, 5))):
        where = rng.normal(0, 0.55, 2)
        turn = rng.uniform(0, 2 * np.pi)
        if form < 0.4:
            shape = leaf_outline('leaf', 20) * (1, rng.uniform(0.3, 0.6)) * rng.uniform(0.1, 0.35)
        elif form < 0.75:
            shape = limb([(-1.6, 0), (0, rng.normal(0, 0.15)), (1.6, 0)], rng.uniform(0.02, 0.09), 0.01)
        else:
            shape = ellipse(0, 0, rng.uniform(0.1, 0.35), rng.uniform(0.08, 0.25))
        parts.append(place(shape, 1.0, turn, where))
    return parts
