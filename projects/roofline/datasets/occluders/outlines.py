"""The outline of a tree's crown from above: a few lobes with ragged borders, as one polygon."""

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

CORNERS = 60  # of a lobe


@dataclass(frozen=True, eq=False)
class Crown:
    """A crown from above.

    Args:
        outline: Its border, (x, y) px, pixel-corner origin, without holes.
        lobes: (n, 4) float64: x, y and radius of each lobe, px, and the height of its middle as a share of `radius`.
        radius: About half of the crown's diameter, px.
    """

    outline: Polygon
    lobes: np.ndarray
    radius: float


def random_crown(centre: tuple[float, float], diameter: float) -> Crown:
    """Draw a crown of numpy's global generator.

    Args:
        centre: (x, y), px.
        diameter: Mean width of the outline, px: the diameter of the circle of the same area.
    """
    number = np.random.randint(4, 9)
    angles = (np.arange(number) + np.random.uniform(-0.35, 0.35, number)) * 2 * np.pi / number
    away = np.random.uniform(0.35, 0.85, number)
    middle = np.column_stack([np.cos(angles) * away, np.sin(angles) * away])
    lobes = np.column_stack([middle, np.random.uniform(0.3, 0.62, number), np.random.uniform(0.2, 0.6, number)])
    lobes = np.vstack([lobes, [*np.random.uniform(-0.12, 0.12, 2), np.random.uniform(0.55, 0.75), 0.8]])
    stretch = np.random.uniform(0.82, 1.0)  # no crown is round
    lobes[:, 0] *= stretch
    whole = shapely.union_all([_ragged(lobe) for lobe in lobes])
    if isinstance(whole, MultiPolygon):
        whole = max(whole.geoms, key=lambda part: part.area)
    whole = Polygon(whole.exterior)  # without the gaps between its lobes
    factor = diameter / 2 / np.sqrt(whole.area / np.pi)
    corners = np.asarray(whole.exterior.coords) * factor + np.asarray(centre)
    lobes[:, :3] *= factor
    lobes[:, :2] += centre
    return Crown(Polygon(corners), lobes, diameter / 2)


def _ragged(lobe: np.ndarray) -> Polygon:
    """Return a lobe's border: a circle with a few waves and a jag at each corner."""
    angles = np.arange(CORNERS) * 2 * np.pi / CORNERS
    radius = np.ones(CORNERS)
    for waves in (3, 5, 8, 13):
        radius += 0.18 / waves * np.cos(waves * angles + np.random.uniform(0, 2 * np.pi)) * np.random.uniform(0.5, 1.5)
    radius *= 1 + np.random.uniform(-0.08, 0.08, CORNERS)
    x, y, length, _ = lobe
    return Polygon(np.column_stack([x + length * radius * np.cos(angles), y + length * radius * np.sin(angles)]))
