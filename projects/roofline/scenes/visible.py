"""What a camera straight above sees of a village's roofs: every face, less what a higher roof hides.

Roofs of one building never hide each other. Where roofs of two buildings overlap (eaves over a neighbour's roof, a
tower beside its church), the higher surface is seen: the lower face loses the part of its plan in which the other
plane lies above it, which is a polygon clipped by a half-plane, so nothing is sampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import Polygon

from projects.scenes.buildings import Building

# Overlays are computed on a grid of this step (metres): borders that lie on each other stay on each other
_GRID = 1e-6
_SMALLEST = 1e-6  # square metres: smaller overlaps are rounding of coordinates


@dataclass(frozen=True, eq=False)
class VisibleFace:
    """A roof face of one building, and what is seen of it.

    Args:
        building: Its place in the scene's buildings.
        plane: (a, gx, gy), the height at (x, y) is a + gx x + gy y, metres.
        whole: The face's plan, scene metres.
        pieces: The parts of it that are seen.
    """

    building: int
    plane: np.ndarray
    whole: Polygon
    pieces: tuple[Polygon, ...]

    def height(self, points: np.ndarray) -> np.ndarray:
        """Heights (N,) of the face's plane at (N, 2) points, metres above the sea."""
        return self.plane[0] + points @ self.plane[1:]


def is_roof_face(part: str) -> bool:
    """Whether a solid's part is one of the surfaces of a roof (not its edge, nor a gable wall)."""
    return part.startswith('roof_') and part != 'roof_edge'


def visible_faces(buildings: Sequence[Building], thinnest: float) -> list[VisibleFace]:
    """Return all roof faces with what is seen of them from straight above.

    Args:
        buildings: Of a scene.
        thinnest: Pieces that are nowhere wider than this are left out, metres.
    """
    owners, planes, plans = [], [], []
    for number, building in enumerate(buildings):
        roof = building.roof
        for face, part in enumerate(roof.parts):
            if is_roof_face(part):
                corners, normal = roof.polygon(face), roof.normal(face)
                slope = -normal[:2] / normal[2]
                owners.append(number)
                planes.append(np.array([corners[0, 2] - corners[0, :2] @ slope, *slope]))
                plans.append(Polygon(corners[:, :2]))
    hidden: dict[int, list[Polygon]] = {}
    if plans:
        for low, high in zip(*shapely.STRtree(plans).query(plans, predicate='intersects'), strict=True):
            if owners[low] != owners[high]:
                shared = shapely.intersection(plans[low], plans[high], grid_size=_GRID)
                part = _above(shared, planes[high] - planes[low])
                if part.area > _SMALLEST:
                    hidden.setdefault(int(low), []).append(part)
    faces = []
    for number, (owner, plane, plan) in enumerate(zip(owners, planes, plans, strict=True)):
        seen = plan
        if number in hidden:
            seen = shapely.difference(plan, shapely.union_all(hidden[number], grid_size=_GRID), grid_size=_GRID)
        pieces = [part for part in shapely.get_parts(seen)
                  if part.geom_type == 'Polygon' and not part.buffer(-thinnest / 2).is_empty]
        faces.append(VisibleFace(owner, plane, plan, tuple(pieces)))
    return faces


def _above(region: shapely.Geometry, difference: np.ndarray) -> shapely.Geometry:
    """The part of a region in which a plane (a, gx, gy) is above zero."""
    if region.is_empty:
        return region
    slope = float(np.hypot(*difference[1:]))
    if slope < 1e-9:
        return region if difference[0] > 0 else Polygon()
    uphill = difference[1:] / slope
    along = np.array([-uphill[1], uphill[0]])
    middle = np.array(region.envelope.centroid.coords[0])
    reach = 2 * float(np.hypot(*np.subtract(region.bounds[2:], region.bounds[:2]))) + 1.0
    foot = middle - uphill * (difference[0] + middle @ difference[1:]) / slope  # where both planes meet
    far = max(0.0, float((middle - foot) @ uphill)) + reach
    half = Polygon([foot - along * reach, foot + along * reach, foot + along * reach + uphill * far,
                    foot - along * reach + uphill * far])
    return shapely.intersection(region, half, grid_size=_GRID)
