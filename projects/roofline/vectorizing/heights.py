"""Heights of junctions from laser points, and what kind of line two planes make."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from projects.roofline.geometry.faces import Faces
from projects.roofline.geometry.line_types import LEVEL, types_from_planes
from projects.roofline.graph import LINE_TYPES
from projects.roofline.vectorizing.planes import Planes, fit_plane

SOURCES = ('none', 'planes', 'interpolated')
"""Where a junction's height comes from; its place in this tuple is what is stored."""
STEP = 0.5  # metres: planes further apart along a line are two roofs, one above the other
ENDS = 0.3  # metres: how exactly the ends of a line are known on the ground; on a slope that is height
COPLANAR = np.cos(np.radians(4.0))


@dataclass(frozen=True, eq=False)
class Heights:
    """The third dimension of a wireframe.

    Attributes:
        junctions: ``(N,)`` metres, NaN where nothing tells.
        sources: ``(N,)`` uint8, indices of :data:`SOURCES`.
        spread: ``(N,)`` metres between the highest and the lowest plane at a junction, NaN without planes.
        planes: of the faces.
    """

    junctions: np.ndarray
    sources: np.ndarray
    spread: np.ndarray
    planes: Planes


def fit_planes(faces: Faces, junctions: np.ndarray, points: list[np.ndarray], seed: int = 0) -> Planes:
    """Fit a plane to the points ``(n, 3)`` of each face; ``junctions`` ``(N, 2)`` are on the ground, in metres."""
    count = len(faces)
    centres = np.array([junctions[list(rings[0])].mean(axis=0) for rings in faces.rings]).reshape(count, 2)
    coefficients, rms = np.full((count, 3), np.nan), np.full(count, np.nan)
    number = np.zeros(count, np.int64)
    for face, xyz in enumerate(points):
        fitted = fit_plane(xyz - [*centres[face], 0.0], np.random.default_rng([seed, face]))
        if fitted is not None:
            coefficients[face], number[face], rms[face] = fitted
    return Planes(centres, coefficients, number, rms)


def junction_heights(faces: Faces, junctions: np.ndarray, lines: np.ndarray, planes: Planes) -> Heights:
    """Give each junction the height that fits the planes of its faces best.

    With x and y given, least squares over the planes is their mean, weighted by how well each knows the height: by
    ``1 / (rms^2 + (slope ENDS)^2)``. So an error of a ridge's place cancels out between its two slopes. Faces are of
    one roof at a junction where lines that are no steps (:func:`_steps`) join them there. Of several roofs the highest
    counts, since its is the line seen from above. Junctions without a plane get heights along lines from those that
    have one (harmonically, by length), and are marked.

    Args:
        faces: of the planar graph.
        junctions: ``(N, 2)`` on the ground, metres.
        lines: ``(M, 2)``.
        planes: of the faces.
    """
    count = len(junctions)
    pairs = [(face, corner) for face, rings in enumerate(faces.rings) for ring in rings for corner in ring]
    pairs = np.unique(np.array(pairs, np.int64).reshape(-1, 2), axis=0)
    face, corner = pairs[planes.known[pairs[:, 0]]].T
    value = planes.heights(face, junctions[corner])
    slope = np.hypot(*planes.coefficients[face, :2].T)
    weight = 1 / (np.maximum(planes.rms[face], 0.02)**2 + (slope * ENDS)**2)
    between, step = _steps(faces, junctions, lines, planes)
    joins = between[~step]
    place = np.searchsorted(face * count + corner, faces.line_faces[joins].T[:, :, None] * count + lines[joins])
    joined = coo_matrix((np.ones(place[0].size), place.reshape(2, -1)), shape=(len(face), len(face)))
    roof = connected_components(joined, directed=False)[1]  # of each face at each of its corners
    mean = np.bincount(roof, weight * value) / np.bincount(roof, weight)
    heights, highest, lowest = np.full(count, -np.inf), np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(heights, corner, mean[roof])
    np.maximum.at(highest, corner, value)
    np.minimum.at(lowest, corner, value)
    known = np.isfinite(heights)
    heights[~known] = np.nan
    spread = np.where(known, highest - lowest, np.nan)
    filled = _interpolated(junctions, lines, heights)
    sources = np.where(known, 1, np.where(np.isfinite(filled), 2, 0)).astype(np.uint8)
    return Heights(filled, sources, spread, planes)


def _steps(faces: Faces, junctions: np.ndarray, lines: np.ndarray, planes: Planes) -> tuple[np.ndarray, np.ndarray]:
    """Return the lines ``(K,)`` between two planes, and at which of them ``(K,)`` a roof ends over a lower one.

    There the planes are more than ``STEP + ENDS |gradient - gradient|`` apart, in the mean of both ends: a ridge with
    one wrong end is no step, a wall between roofs that is low at one end, or that changes sides, is one.
    """
    known = (faces.line_faces >= 0) & np.append(planes.known, False)[faces.line_faces]
    between = np.flatnonzero(known.all(axis=1))
    f, g = faces.line_faces[between].T
    apart = [np.abs(planes.heights(f, junctions[end]) - planes.heights(g, junctions[end])) for end in lines[between].T]
    gradients = planes.coefficients[:, :2]
    return between, np.mean(apart, axis=0) > STEP + ENDS * np.linalg.norm(gradients[f] - gradients[g], axis=1)


def _interpolated(junctions: np.ndarray, lines: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Fill unknown heights: each the mean of its neighbours', weighted by 1 / length."""
    count = len(junctions)
    known = np.isfinite(heights)
    if len(lines) == 0 or known.all() or not known.any():
        return heights
    length = np.linalg.norm(junctions[lines[:, 0]] - junctions[lines[:, 1]], axis=1)
    weight = coo_matrix((1 / np.maximum(length, 1e-9), lines.T), shape=(count, count)).tocsr()
    weight = weight + weight.T
    parts = connected_components(weight, directed=False)[1]
    anchored = np.zeros(parts.max() + 1, bool)
    anchored[parts[known]] = True
    open_ = ~known & anchored[parts]
    filled = heights.copy()
    if open_.any():
        laplacian = diags(np.asarray(weight.sum(axis=1)).ravel()) - weight
        right = weight[open_][:, known] @ heights[known]
        filled[open_] = spsolve(laplacian.tocsr()[open_][:, open_].tocsc(), right)
    return filled


def line_types(faces: Faces, junctions: np.ndarray, lines: np.ndarray, heights: Heights) -> np.ndarray:
    """Type lines in three dimensions: ``(M,)`` uint8, indices of LINE_TYPES.

    By the planes on both sides, see :func:`projects.roofline.geometry.line_types.types_from_planes`, and besides:
    where one roof ends over another (:func:`_steps`), the line is an `eave` if it is level and else a
    `verge`; between planes within 4 degrees of each other it stays `inner`.

    Args:
        faces: of the planar graph.
        junctions: ``(N, 2)`` on the ground, metres.
        lines: ``(M, 2)``.
        heights: of the junctions, with the planes.
    """
    planes, z = heights.planes, heights.junctions
    types = types_from_planes(junctions, lines, [rings[0] for rings in faces.rings], planes.coefficients[:, :2])
    between, step = _steps(faces, junctions, lines, planes)
    f, g = faces.line_faces[between].T
    flat = (planes.normals[f] * planes.normals[g]).sum(axis=1) > COPLANAR
    types[between[flat]] = LINE_TYPES.index('inner')
    step = between[step]
    along = np.linalg.norm(junctions[lines[step, 1]] - junctions[lines[step, 0]], axis=1)
    level = np.abs(z[lines[step, 1]] - z[lines[step, 0]]) <= LEVEL * along
    types[step] = np.where(level, LINE_TYPES.index('eave'), LINE_TYPES.index('verge'))
    return types
