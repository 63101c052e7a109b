"""Polygons on a pixel grid: coverage, a body's height from its outline, light and shadow, one layer over another."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Light:
    """Direction towards the light: ``x``, ``y`` in the picture (y down), ``z`` towards the viewer; length 1."""

    x: float
    y: float
    z: float


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a light, mostly from above."""
    turn = -np.pi / 2 + rng.normal(0, 0.9)
    high = np.deg2rad(rng.uniform(25, 75))
    return Light(float(np.cos(turn) * np.cos(high)), float(np.sin(turn) * np.cos(high)), float(np.sin(high)))


def place(points: np.ndarray, scale: float, turn: float, centre: np.ndarray, flip: bool = False) -> np.ndarray:
    """Scale, mirror (along x), turn and move points (n, 2)."""
    c, s = np.cos(turn), np.sin(turn)
    x, y = points[:, 0] * (-scale if flip else scale), points[:, 1] * scale
    return np.stack([x * c - y * s, x * s + y * c], -1) + np.asarray(centre)


def fill(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Coverage (H, W) in [0, 1] of the union of polygons (n, 2) in pixels; four samples a pixel."""
    canvas = np.zeros((2 * height, 2 * width), np.uint8)
    for polygon in polygons:
        fixed = np.round(np.clip(polygon, -4 * width - 4 * height, 4 * width + 4 * height) * 2 * 16).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], 255, cv2.LINE_8, 4)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def dome(alpha: np.ndarray) -> np.ndarray:
    """Height (H, W) in pixels of a rounded body over its outline."""
    inside = cv2.distanceTransform((np.pad(alpha, 1, mode='edge') > 0.5).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    radius = max(float(inside.max()), 1.0)
    rise = np.minimum(inside / np.float32(radius), 1)
    height = np.sqrt(np.maximum(1 - (1 - rise) ** 2, 0)) * np.float32(radius)
    return cv2.GaussianBlur(height, (0, 0), max(0.12 * radius, 0.6))


def shading(height: np.ndarray, light: Light, strength: float) -> np.ndarray:
    """Lambert's law on a height field (H, W) in pixels: a factor, 1 where the surface is level."""
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    lit = (light.z - light.x * gx - light.y * gy) / np.sqrt(1 + gx * gx + gy * gy)
    lit = np.clip(lit / np.float32(max(light.z, 0.35)), 0.15, 1.7)
    return 1 + np.float32(strength) * (lit - 1)


def drop_shadow(image: np.ndarray, alpha: np.ndarray, light: Light, length: float, strength: float) -> np.ndarray:
    """Darken ``image`` (H, W, 3) by the shadow that ``alpha`` throws away from the light, ``length`` pixels far."""
    shift = np.float32([[1, 0, -light.x * length], [0, 1, -light.y * length]])
    shadow = cv2.warpAffine(alpha, shift, (alpha.shape[1], alpha.shape[0]))
    shadow = cv2.GaussianBlur(np.maximum(shadow, alpha), (0, 0), max(0.6 * length, 0.7))
    return image * (1 - np.float32(strength) * shadow)[..., None]


def cover(image: np.ndarray, layer: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay ``layer`` (H, W, 3) over ``image`` with coverage ``alpha`` (H, W)."""
    return image + (layer - image) * alpha[..., None]
