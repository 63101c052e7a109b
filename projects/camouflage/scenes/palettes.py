"""Colours as they occur outdoors: ranges of hue, saturation and value, and palettes drawn from them."""

from dataclasses import dataclass

import cv2
import numpy as np

# hue in degrees, saturation, value of the middle tone (sRGB)
RANGES = {
    'green': ((65, 120), (0.25, 0.75), (0.20, 0.60)),
    'moss': ((55, 90), (0.35, 0.75), (0.15, 0.50)),
    'dry': ((32, 52), (0.15, 0.50), (0.35, 0.75)),
    'autumn': ((8, 45), (0.30, 0.80), (0.25, 0.65)),
    'brown': ((15, 38), (0.15, 0.55), (0.15, 0.55)),
    'grey': ((20, 60), (0.02, 0.14), (0.25, 0.70)),
    'slate': ((190, 240), (0.03, 0.18), (0.20, 0.60)),
    'rust': ((5, 25), (0.30, 0.65), (0.25, 0.55)),
    'soil': ((15, 35), (0.15, 0.45), (0.10, 0.40)),
    'sand': ((25, 48), (0.10, 0.45), (0.45, 0.85)),
    'gold': ((38, 58), (0.35, 0.80), (0.35, 0.70)),
    'snow': ((190, 250), (0.00, 0.12), (0.70, 0.95)),
    'night': ((190, 260), (0.05, 0.35), (0.06, 0.25)),
    'olive': ((45, 75), (0.25, 0.60), (0.20, 0.55)),
    'reef': ((-15, 45), (0.20, 0.70), (0.30, 0.75)),
    'violet': ((250, 340), (0.06, 0.32), (0.25, 0.65)),
    'teal': ((150, 200), (0.20, 0.65), (0.25, 0.70)),
    'deep': ((185, 225), (0.45, 0.90), (0.10, 0.55)),
    'pale': ((30, 190), (0.03, 0.20), (0.50, 0.85)),
}


def rgb(hsv: np.ndarray) -> np.ndarray:
    """Convert (..., 3) of hue in degrees, saturation and value to RGB in [0, 1], float32."""
    hsv = np.asarray(hsv, np.float32)
    flat = np.stack([hsv[..., 0] % 360, np.clip(hsv[..., 1], 0, 1), np.clip(hsv[..., 2], 0, 1)], -1)
    return cv2.cvtColor(flat.reshape(-1, 1, 3).astype(np.float32), cv2.COLOR_HSV2RGB).reshape(hsv.shape)


@dataclass(frozen=True)
class Palette:
    """Tones from dark to light.

    Attributes:
        colours: (K, 3) RGB in [0, 1], by rising luminance.
        table: (256, 3) the same as a ramp.
    """

    colours: np.ndarray
    table: np.ndarray

    def ramp(self, field: np.ndarray) -> np.ndarray:
        """Colour a field (H, W) in [0, 1]: (H, W, 3) float32."""
        return self.table[np.clip(field * 255, 0, 255).astype(np.uint8)]

    def pick(self, rng: np.random.Generator, count: int, jitter: float = 0.05) -> np.ndarray:
        """Draw ``count`` colours (count, 3) from the ramp, each moved by ``jitter`` (standard deviation)."""
        colours = self.table[rng.integers(0, 256, count)]
        light = rng.normal(0, jitter, (count, 1))
        return np.clip(colours + light + rng.normal(0, jitter * 0.4, (count, 3)), 0, 1).astype(np.float32)


def draw_palette(rng: np.random.Generator, name: str) -> Palette:
    """Draw a palette out of ``RANGES[name]``; now and then an accent of another hue is in it."""
    hues, saturations, values = RANGES[name]
    hue, saturation, value = (rng.uniform(*pair) for pair in (hues, saturations, values))
    count, spread = 5, rng.uniform(0.12, 0.45)
    tones = np.linspace(-1, 1, count)
    hsv = np.stack([hue + rng.normal(0, 8, count) + tones * rng.normal(0, 8),
                    saturation * (1 + rng.normal(0, 0.15, count)) - tones * rng.uniform(-0.05, 0.15),
                    value * (1 + tones * 1.6 * spread) + rng.normal(0, 0.02, count)], -1)
    if rng.random() < 0.3:
        hsv[rng.integers(count), 0] += rng.uniform(-50, 50)
    hsv[:, 2] = np.clip(hsv[:, 2], 0.02, 0.98)
    colours = rgb(hsv)
    colours = colours[np.argsort(colours @ np.float32([0.299, 0.587, 0.114]), kind='stable')]
    at = np.linspace(0, 1, 256)
    table = np.stack([np.interp(at, np.linspace(0, 1, count), colours[:, c]) for c in range(3)], -1)
    return Palette(colours.astype(np.float32), table.astype(np.float32))
