"""Points as pixels: a parallel projection, nearest point first, shaded where depth breaks (eye-dome lighting)."""

from dataclasses import dataclass

import numpy as np

from projects.lidar.palette import Colour


@dataclass(frozen=True)
class Camera:
    """A parallel projection.

    Args:
        azimuth: Degrees, where the camera stands: 0 looks north (from the south), 90 looks west.
        elevation: Degrees above the horizon; 90 looks straight down.
    """

    azimuth: float = 0.0
    elevation: float = 90.0

    def axes(self) -> np.ndarray:
        """Return the axes right, up and towards the camera, rows of ``(3, 3)``."""
        a, e = np.radians([self.azimuth, self.elevation])
        right = (np.cos(a), np.sin(a), 0.0)
        towards = (np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e))
        return np.array([right, np.cross(towards, right), towards])


TOP = Camera()
OBLIQUE = Camera(30, 38)


def draw_points(xyz: np.ndarray, colours: np.ndarray, camera: Camera, width: int, *, paper: Colour = (255, 255, 255),
                shading: float = 1.0, sampling: int = 2) -> tuple[np.ndarray, float]:
    """Draw points.

    Args:
        xyz: ``(n, 3)`` metres.
        colours: ``(n, 3)`` uint8.
        camera: From where.
        width: Of the picture in pixels; the height follows.
        paper: Colour where no point is.
        shading: Strength of the shadows at depth breaks; 0 is none.
        sampling: Pixels a side that become one, for smooth edges.

    Returns:
        The picture ``(height, width, 3)`` uint8, and the metres of one of its pixels.
    """
    seen = (np.asarray(xyz, np.float64) @ camera.axes().T).astype(np.float32)
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    span = np.maximum(high - low, 1e-3)
    margin = 0.01 * span.max()
    pixel = float((span[0] + 2 * margin) / (width * sampling))
    columns = width * sampling
    rows = max(int(np.ceil((span[1] + 2 * margin) / pixel)), sampling)
    rows += -rows % sampling
    place = ((seen[:, :2] - low + margin) / pixel).astype(np.int64)
    # A point is a square as wide as points lie apart, so that surfaces close.
    area = span[0] * span[1] / max(len(xyz), 1)
    reach = int(np.clip(np.round(np.sqrt(area) / pixel), 0, 12))
    offset = np.arange(-reach, reach + 1)
    dv, du = (grid[np.hypot(*np.meshgrid(offset, offset)) <= reach + 0.5] for grid in np.meshgrid(offset, offset))
    nearest = np.full((rows, columns), -1, np.int64)
    order = np.argsort(seen[:, 2], kind='stable')  # far to near: of several writes into a pixel the last one stays
    for part in np.array_split(order, 1 + len(order) * len(du) // 4_000_000):
        u = np.clip(place[part, 0][:, None] + du, 0, columns - 1)
        v = np.clip(rows - 1 - place[part, 1][:, None] + dv, 0, rows - 1)
        nearest[v, u] = part[:, None]
    depth = np.where(nearest >= 0, seen[nearest, 2], -np.inf)
    picture = np.where((nearest >= 0)[..., None], colours[nearest], np.array(paper, np.uint8)).astype(np.float32)
    if shading:
        picture *= np.where(nearest >= 0, _eye_dome(depth, pixel * sampling, shading), 1)[..., None]
    small = picture.reshape(rows // sampling, sampling, width, sampling, 3).mean(axis=(1, 3))
    return np.clip(np.round(small), 0, 255).astype(np.uint8), pixel * sampling


def _eye_dome(depth: np.ndarray, pixel: float, strength: float) -> np.ndarray:
    """Return how bright pixels are, 0..1: darker the deeper they lie below their neighbours (Boucheny 2009)."""
    response = np.zeros(depth.shape, np.float32)
    count = 0
    for radius in (2, 5):
        for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
            other = np.roll(depth, (dv * radius, du * radius), axis=(0, 1))
            with np.errstate(invalid='ignore'):
                step = np.nan_to_num(other - depth, nan=0.0, posinf=0.0, neginf=0.0)
            response += np.clip(step / (radius * pixel), 0, 3)
            count += 1
    return np.maximum(np.exp(-0.55 * strength * response / count), 0.3)
