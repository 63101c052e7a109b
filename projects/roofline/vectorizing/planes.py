"""Robust planes z = a x + b y + c through points of a roof's face."""

from dataclasses import dataclass

import numpy as np

TRIPLES = 200  # hypotheses of a face
SAMPLE = 400  # points that vote
NEAR = 0.12  # metres from the plane, at right angles to it: of the roof
STEEPEST = np.tan(np.radians(80.0))  # what is steeper is a wall
FEWEST = 6  # points on a plane
SHARE = 0.3  # of the points, at least, on the plane


@dataclass(frozen=True, eq=False)
class Planes:
    """One plane a face, ``z = a (x - x0) + b (y - y0) + c``; NaN where a face has none.

    Attributes:
        centres: ``(F, 2)`` x0, y0 in metres.
        coefficients: ``(F, 3)`` a, b, c; c is the height above the centre in metres.
        points: ``(F,)`` int64, points on the plane.
        rms: ``(F,)`` metres, of their distances to it.
    """

    centres: np.ndarray
    coefficients: np.ndarray
    points: np.ndarray
    rms: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """``(F,)`` bool: has a plane."""
        return np.isfinite(self.coefficients[:, 2])

    @property
    def normals(self) -> np.ndarray:
        """``(F, 3)`` unit vectors that point up."""
        upward = np.column_stack([-self.coefficients[:, :2], np.ones(len(self.coefficients))])
        return upward / np.linalg.norm(upward, axis=1, keepdims=True)

    def slopes(self) -> np.ndarray:
        """``(F,)`` degrees from level."""
        return np.degrees(np.arctan(np.hypot(*self.coefficients[:, :2].T)))

    def azimuths(self) -> np.ndarray:
        """``(F,)`` degrees clockwise from the grid's north: where the water runs; NaN for slopes below 1 degree."""
        a, b = self.coefficients[:, :2].T
        return np.where(self.slopes() < 1.0, np.nan, np.degrees(np.arctan2(-a, -b)) % 360.0)

    def heights(self, faces: np.ndarray, xy: np.ndarray) -> np.ndarray:
        """Return the heights ``(n,)`` of the planes of ``faces`` ``(n,)`` at ``xy`` ``(n, 2)``."""
        a, b, c = self.coefficients[faces].T
        x, y = (xy - self.centres[faces]).T
        return a * x + b * y + c


def fit_plane(xyz: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, int, float] | None:
    """Fit a plane to the points of one face, of which chimneys, walls and branches are no part.

    The best of :data:`TRIPLES` planes through three points, by the points near it (RANSAC), then least squares over
    these points, three times.

    Args:
        xyz: ``(n, 3)``, x and y from the face's centre, metres.
        generator: draws the triples.

    Returns:
        ``(a, b, c)``, the number of points on it and their rms distance in metres; None where there are too few.
    """
    if len(xyz) < FEWEST:
        return None
    voters = xyz if len(xyz) <= SAMPLE else xyz[generator.choice(len(xyz), SAMPLE, replace=False)]
    corners = voters[generator.integers(0, len(voters), (TRIPLES, 3))]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    upright = np.abs(normal[:, 2]) * STEEPEST > np.hypot(normal[:, 0], normal[:, 1])
    upright &= np.abs(normal[:, 2]) > 1e-6
    if not upright.any():
        return None
    normal, corner = normal[upright], corners[upright, 0]
    slopes = -normal[:, :2] / normal[:, 2:]
    planes = np.column_stack([slopes, corner[:, 2] - (slopes * corner[:, :2]).sum(axis=1)])
    votes = (np.abs(_distances(planes, voters)) < NEAR).sum(axis=1)
    plane = planes[np.argmax(votes)]
    for _ in range(3):
        near = np.abs(_distances(plane[None], xyz)[0]) < NEAR
        if near.sum() < FEWEST:
            return None
        found, _, rank, _ = np.linalg.lstsq(np.column_stack([xyz[near, :2], np.ones(near.sum())]), xyz[near, 2])
        if rank < 3 or np.hypot(*found[:2]) > STEEPEST:
            return None
        plane = found
    distances = _distances(plane[None], xyz)[0]
    near = np.abs(distances) < NEAR
    if near.sum() < max(FEWEST, SHARE * len(xyz)):
        return None
    return plane, int(near.sum()), float(np.sqrt(np.mean(distances[near]**2)))


def _distances(planes: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Distances ``(p, n)`` of points from planes, at right angles."""
    upright = xyz[None, :, 2] - planes[:, :1] * xyz[None, :, 0] - planes[:, 1:2] * xyz[None, :, 1] - planes[:, 2:]
    return upright / np.sqrt(1 + planes[:, :1]**2 + planes[:, 1:2]**2)
