"""The coat of an object: a texture with the statistics of the ground it lies on, and what gives it away.

Each way of hiding has its own weakness, and a detector must know them all: the same surface drawn again (its features
break off at the outline), ground copied from elsewhere in the picture, noise with the ground's spectrum (no structure
in its phases), another surface in the ground's colours. A pattern, a different scale, a shifted colour come on top,
all the weaker the higher the difficulty.
"""

import cv2
import numpy as np

from projects.camouflage.scenes.background import Background
from projects.camouflage.scenes.palettes import draw_palette
from projects.camouflage.scenes.spectra import band_noise, phase_randomised, power_noise
from projects.camouflage.scenes.textures import FAMILIES, draw_texture

_HUES = ('green', 'brown', 'sand', 'grey', 'olive', 'autumn', 'reef', 'pale', 'slate', 'gold')
Box = tuple[int, int, int, int]


def colour_moments(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (3,) and covariance (3, 3) of pixels (n, 3)."""
    centred = pixels - pixels.mean(0)
    return pixels.mean(0).astype(np.float64), (centred.T @ centred / max(len(pixels), 1)).astype(np.float64)


def _root(matrix: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-7) ** power) @ vectors.T


def colour_transfer(image: np.ndarray, mean: np.ndarray, covariance: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """Give an image (H, W, 3) the mean and covariance of other pixels (the optimal map between two Gaussians).

    Args:
        image: RGB.
        mean, covariance: what it gets.
        gain: factor of the deviation.

    Pitie & Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping". No direction is stretched more than
    4 times, so that noise in a flat image is not blown up.
    """
    own_mean, own = colour_moments(image.reshape(-1, 3))
    own = own + np.eye(3) * 2e-5
    half, inverse = _root(own, 0.5), _root(own, -0.5)
    step = inverse @ _root(half @ covariance @ half, 0.5) @ inverse
    values, vectors = np.linalg.eigh((step + step.T) / 2)
    step = (vectors * np.clip(values, 0, 4)) @ vectors.T * gain
    return ((image - own_mean.astype(np.float32)) @ step.T.astype(np.float32) + mean.astype(np.float32))


def surroundings(alpha: np.ndarray, box: Box) -> tuple[slice, slice]:
    """Window around a box (y0, x0, y1, x1), half as large again on each side, inside the picture."""
    y0, x0, y1, x1 = box
    dy, dx = max((y1 - y0) // 2, 8), max((x1 - x0) // 2, 8)
    return slice(max(y0 - dy, 0), min(y1 + dy, alpha.shape[0])), slice(max(x0 - dx, 0), min(x1 + dx, alpha.shape[1]))


def _copied(rng: np.random.Generator, ground: np.ndarray, h: int, w: int) -> np.ndarray:
    """A piece of the picture from elsewhere, mirrored, turned by a quarter or not."""
    image = np.ascontiguousarray(np.rot90(ground, int(rng.integers(4))))
    if rng.random() < 0.5:
        image = image[:, ::-1]
    bottom, right = max(h - image.shape[0], 0), max(w - image.shape[1], 0)
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REFLECT)
    y, x = int(rng.integers(image.shape[0] - h + 1)), int(rng.integers(image.shape[1] - w + 1))
    return np.ascontiguousarray(image[y:y + h, x:x + w])


def _base(rng: np.random.Generator, ground: Background, here: int, near: np.ndarray, h: int, w: int, turn: float,
          ease: float) -> np.ndarray:
    form = rng.random()
    if form < 0.4:  # the same surface again
        zoom = ground.zoom * float(np.exp(ease * rng.uniform(-1.0, 0.6) + rng.normal(0, 0.15)))
        angle = turn if rng.random() < 0.5 else ground.angle + rng.normal(0, 0.4)
        return ground.textures[here].draw(rng, h, w, zoom, angle)
    if form < 0.55:
        return _copied(rng, ground.image, h, w)
    if form < 0.75:
        return phase_randomised(rng, near, h, w)
    if form < 0.88:  # another surface altogether
        texture = draw_texture(rng, str(rng.choice(list(FAMILIES))), str(rng.choice(_HUES)))
        return texture.draw(rng, h, w, ground.zoom * float(np.exp(rng.uniform(-1.2, 0.2))), turn)
    skin = power_noise(rng, h, w, rng.uniform(0.8, 1.8), turn, rng.uniform(1, 3))  # skin or fur: fine noise
    return draw_palette(rng, str(rng.choice(_HUES))).ramp(0.5 + 0.2 * skin)


def _pattern(rng: np.random.Generator, h: int, w: int, along: np.ndarray, across: np.ndarray,
             length: float) -> np.ndarray:
    """Field (h, w) in [-1, 1]: stripes, spots, blotches, a saddle; ``along`` and ``across`` are the body's axes."""
    form = rng.random()
    wobble = power_noise(rng, h, w, 1.4)
    if form < 0.3:
        return np.sin(along * np.float32(rng.uniform(6, 30)) + np.float32(rng.uniform(0.2, 1.2)) * wobble)
    if form < 0.45:
        return np.sin(across * np.float32(rng.uniform(6, 20)) + np.float32(rng.uniform(0.2, 0.8)) * wobble)
    if form < 0.75:
        spots = band_noise(rng, h, w, max(length * rng.uniform(0.03, 0.15), 3.5), 0.3)
        return np.tanh(3 * (spots - np.float32(rng.uniform(0.2, 1.2))))
    return np.tanh(2.5 * wobble)


def draw_coat(rng: np.random.Generator, ground: Background, alpha: np.ndarray, box: Box, turn: float, length: float,
              difficulty: float) -> np.ndarray:
    """Draw the coat (h, w, 3) of an object in its box.

    Args:
        rng: where the randomness comes from.
        ground: what it lies on.
        alpha: (H, W) coverage of the object in the picture.
        box: y0, x0, y1, x1.
        turn: direction of its body (radians).
        length: of its body in pixels.
        difficulty: 0 (another colour, contrast and scale) to 1 (the ground's own).
    """
    y0, x0, y1, x1 = box
    h, w = y1 - y0, x1 - x0
    ease = 1 - difficulty
    window = surroundings(alpha, box)
    near, outside = ground.image[window], alpha[window] < 0.1
    pixels = near[outside] if outside.sum() > 64 else near.reshape(-1, 3)
    mean, covariance = colour_moments(pixels)
    here = int(np.bincount(ground.owner[y0:y1, x0:x1][alpha[y0:y1, x0:x1] > 0.5], minlength=1).argmax())
    base = _base(rng, ground, here, near, h, w, turn, ease)

    light = rng.choice([-1, 1]) * rng.uniform(0.10, 0.28)
    hue = rng.normal(0, 0.09, 3)
    hue -= hue.mean()
    slack = rng.normal(0, 0.02, 3)
    gain = float(np.exp(ease * rng.uniform(-1.0, 0.5) + rng.normal(0, 0.1)))
    if mean.mean() + light > 0.9 or mean.mean() + light < 0.06:
        light = -light
    coat = colour_transfer(base, mean + ease * (light + hue) + slack, covariance + np.eye(3) * 2e-4, gain)
    if rng.random() < 0.4:  # smooth skin
        coat = cv2.GaussianBlur(coat, (0, 0), 0.3 + rng.uniform(0.2, 2.5) * (0.25 + ease))

    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    ys = ((np.arange(h, dtype=np.float32) - h / 2) / np.float32(max(length, 1)))[:, None]
    xs = ((np.arange(w, dtype=np.float32) - w / 2) / np.float32(max(length, 1)))[None, :]
    along, across = xs * c + ys * s, ys * c - xs * s
    amplitude = rng.uniform(0.04, 0.30) * (0.35 + ease)
    draw_it, pattern = rng.random() < 0.7, _pattern(rng, h, w, along, across, length)
    tint = 1 + 0.3 * rng.normal(0, 1, 3)
    if draw_it:
        coat = coat * (1 + np.float32(amplitude) * pattern[..., None] * tint.astype(np.float32))
    belly = rng.uniform(-0.1, 0.5) * (0.3 + 0.7 * ease)  # countershading: the belly is paler than the back
    if rng.random() < 0.5:
        coat = coat * (1 + np.float32(belly) * np.clip(across * 2, -1, 1))[..., None]
    return np.clip(coat, 0, 1.2).astype(np.float32)
