"""The looks of a crown: leaves in clumps, lit from one side, and its shadow on the roof."""

import cv2
import numpy as np
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from projects.roofline.datasets.occluders.outlines import Crown

# RGB of lit leaves: dark conifer, oak, lime, olive, yellow green, dry, autumn, bare twigs
LEAVES = np.array([(62, 84, 58), (84, 112, 60), (106, 134, 70), (118, 126, 82), (140, 148, 84), (134, 118, 84),
                   (156, 116, 66), (112, 102, 90)], np.float32)
ODDS = np.array([3, 5, 4, 3, 2, 1.5, 1, 1])
FINER = 8  # sub-pixels of the coverage, in each direction; OpenCV's fills are up to one of them too wide


def coverage(shape: BaseGeometry, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return the share of each pixel that a polygon covers, (bottom - top, right - left) float32 in 0..1.

    Args:
        shape: (x, y) px, pixel-corner origin; holes are filled.
        box: (left, top, right, bottom), px.
    """
    left, top, right, bottom = box
    fine = np.zeros(((bottom - top) * FINER, (right - left) * FINER), np.uint8)
    for part in [shape] if isinstance(shape, Polygon) else shape.geoms:
        # OpenCV's whole numbers are centres of sub-pixels; 4 bits behind the point.
        corners = ((np.asarray(part.exterior.coords) - (left, top)) * FINER - 0.5) * 16
        cv2.fillPoly(fine, [np.rint(corners).astype(np.int32)], 255, shift=4)
    return cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def paint_crown(image: np.ndarray, crown: Crown, sun: tuple[float, float]) -> np.ndarray:
    """Return a copy of an image with a crown and its shadow on it; draws of numpy's global generator.

    Args:
        image: (H, W, 3) uint8 RGB.
        crown: What to draw; it may reach out of the image.
        sun: (x, y) of a unit vector in the image, towards the sun.
    """
    reach = crown.radius * np.random.uniform(0.1, 0.35)  # length of the shadow
    shift = -reach * np.asarray(sun)
    x0, y0, x1, y1 = crown.outline.bounds
    margin = reach + 4
    height, width = image.shape[:2]
    box = (max(0, int(x0 - margin)), max(0, int(y0 - margin)),
           min(width, int(x1 + margin) + 1), min(height, int(y1 + margin) + 1))
    if box[0] >= box[2] or box[1] >= box[3]:
        return image
    image = image.copy()
    part = image[box[1]:box[3], box[0]:box[2]].astype(np.float32)
    shadow = coverage(Polygon(np.asarray(crown.outline.exterior.coords) + shift), box)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 1.0 + 0.03 * crown.radius)
    part *= 1 - np.random.uniform(0.3, 0.6) * shadow[..., None]
    cover = coverage(crown.outline, box)[..., None]
    level = np.clip(image.mean() / 120, 0.7, 1.25)  # as bright as the photograph
    part += cover * (_leaves(crown, box, sun) * level - part)
    image[box[1]:box[3], box[0]:box[2]] = np.clip(np.rint(part), 0, 255)
    return image


def _leaves(crown: Crown, box: tuple[int, int, int, int], sun: tuple[float, float]) -> np.ndarray:
    """Return the colours (h, w, 3) float32 of a box that is all leaves."""
    shape = (box[3] - box[1], box[2] - box[0])
    x = np.arange(box[0], box[2], dtype=np.float32)[None] + 0.5
    y = np.arange(box[1], box[3], dtype=np.float32)[:, None] + 0.5
    relief = np.zeros(shape, np.float32)
    for cx, cy, radius, top in crown.lobes:
        dome = 1 - ((x - cx) ** 2 + (y - cy) ** 2) / np.float32(1.2 * radius) ** 2
        np.maximum(relief, np.sqrt(np.maximum(dome, 0)) * np.float32(radius) + np.float32(0.4 * top * crown.radius)
                   * (dome > 0), out=relief)
    relief = cv2.GaussianBlur(relief, (0, 0), max(0.6, 0.05 * crown.radius))
    clumps = _noise(shape, max(2.0, 0.3 * crown.radius)) + 0.8 * _noise(shape, max(1.8, 0.13 * crown.radius))
    leaves = _noise(shape, 2.5) + 0.7 * _noise(shape, 1.3)
    relief += (0.1 * crown.radius) * clumps + np.float32(np.random.uniform(0.5, 1.0)) * leaves
    down, right = np.gradient(relief) if min(shape) > 1 else (np.zeros_like(relief), np.zeros_like(relief))
    # Lambert's law with the sun half way up the sky
    light = (1.0 - (right * sun[0] + down * sun[1])) / np.sqrt(2 * (1 + right**2 + down**2))
    hollows = np.clip(0.78 + 0.3 * clumps, 0.45, 1.05)  # between the clumps it is dark
    light = (0.25 + 0.85 * np.clip(light, 0, None)) * hollows
    colour = LEAVES[np.random.choice(len(LEAVES), p=ODDS / ODDS.sum())] * _tint(0.8, 1.1)
    mix = np.clip(0.5 + 0.5 * _noise(shape, max(2.0, 0.4 * crown.radius)), 0, 1)[..., None]
    picture = (colour + mix * (colour * _tint(0.85, 1.2) - colour)) * light[..., None]
    picture *= 1 + 0.12 * leaves[..., None] + np.random.normal(0, 0.05, shape)[..., None]
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.5)  # as sharp as a photograph, no sharper


def _tint(darkest: float, lightest: float) -> np.ndarray:
    """Return factors (3,) of red, green and blue: one brightness, and a little hue."""
    return np.random.uniform(darkest, lightest) * np.random.uniform(0.94, 1.06, 3)


def _noise(shape: tuple[int, int], size: float) -> np.ndarray:
    """Return smooth noise (h, w) float32, about -1..1, with blotches of `size` px."""
    coarse = [max(2, round(side / size) + 1) for side in shape]
    noise = np.random.uniform(-1, 1, coarse).astype(np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
