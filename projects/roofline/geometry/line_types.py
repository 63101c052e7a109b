"""What a line of a roof is, from the planes on its two sides: ridge, hip, valley, break, eave or verge."""

from collections.abc import Sequence

import numpy as np

from projects.roofline.graph import LINE_TYPES

OUTLINE, INNER, RIDGE, HIP, VALLEY, EAVE, VERGE, BREAK = range(len(LINE_TYPES))
# A hip between two planes of 35 degrees rises by 26 degrees; hand-drawn ridges lean by a few.
LEVEL = np.tan(np.radians(12.0))
FLAT = np.tan(np.radians(4.0))  # rise, square to a line, below which a plane counts as flat there
ALONG, ACROSS = 0.5, np.sqrt(0.75)  # shares of a plane's rise along an outer edge: up to it an eave, from it a verge


def rise_of(azimuth: float | None, slope: float | None, zero: str = 'south') -> np.ndarray:
    """Return the gradient (east, north) of a plane: metres of height a metre of ground, uphill.

    Args:
        azimuth: Where the plane looks (downhill), degrees, clockwise from ``zero``. None: not known.
        slope: Degrees, 0 flat. None: not known.
        zero: 'south' (RID: -90 is east, 90 is west) or 'north' (compass).

    Returns:
        (2,) float64; zeros for a flat plane whatever its azimuth; NaN where it is not known.
    """
    if slope is None or (azimuth is None and slope != 0):
        return np.full(2, np.nan)
    if slope == 0:
        return np.zeros(2)
    downhill = np.radians(azimuth + (180.0 if zero == 'south' else 0.0))
    return -np.tan(np.radians(slope)) * np.array([np.sin(downhill), np.cos(downhill)])


def rises_from_heights(ground: np.ndarray, heights: np.ndarray, faces: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the gradients (F, 2) of the planes that fit the heights of the faces' junctions best.

    Args:
        ground: (N, 2) positions, in the unit of the heights.
        heights: (N,); NaN where it is not known.
        faces: Rings of junctions. One with fewer than three known heights, or with all in a row, gets NaN.
    """
    rises = np.full((len(faces), 2), np.nan)
    for number, face in enumerate(faces):
        corners = np.array(face)[np.isfinite(heights[list(face)])]
        if len(corners) < 3:
            continue
        offsets = ground[corners] - ground[corners].mean(axis=0)
        spread = np.linalg.svd(offsets, compute_uv=False)
        if spread[1] > 1e-6 * spread[0]:
            rises[number] = np.linalg.lstsq(offsets, heights[corners] - heights[corners].mean(), rcond=None)[0]
    return rises


def types_from_planes(ground: np.ndarray, lines: np.ndarray, faces: Sequence[Sequence[int]],
                      rises: np.ndarray) -> np.ndarray:
    """Return what each line is.

    Between two planes that both fall away from it, a line is a ridge where it is level (up to 12 degrees) and a hip
    where it is not; between two that both rise from it, a valley; where one rises and one falls, or one is flat, a
    break. On the outside, a level line from which the roof rises is an eave, one that runs up the roof a verge.
    What cannot be told stays ``outline`` (edge of one face or none) or ``inner`` (edge of two).

    Args:
        ground: (N, 2) positions of the junctions in a plane of metres; which way its axes point is of no matter, as
            long as ``rises`` have the same.
        lines: (M, 2) junctions.
        faces: Rings of junctions.
        rises: (F, 2) gradients of the faces' planes, metres a metre; NaN where it is not known.

    Returns:
        (M,) uint8, places in :data:`~projects.roofline.graph.LINE_TYPES`.
    """
    sides: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for face, rise in zip(faces, rises, strict=True):
        ring = ground[list(face)]
        following = np.roll(ring, -1, axis=0)
        turn = np.sign((ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum())
        along = following - ring
        length = np.linalg.norm(along, axis=1)
        along = along / np.where(length > 0, length, 1.0)[:, None]
        inside = turn * np.stack([-along[:, 1], along[:, 0]], axis=1)  # square to the edge, into the face
        for first, second, up, step in zip(face, (*face[1:], face[0]), inside @ rise, along @ rise, strict=True):
            low = first < second
            sides.setdefault((min(first, second), max(first, second)), []).append(
                (float(up), float(step if low else -step), float(np.linalg.norm(rise))))
    return np.array([_line_type(sides.get((min(pair), max(pair)), [])) for pair in lines.tolist()], np.uint8)


def _line_type(sides: list[tuple[float, float, float]]) -> int:
    """Return a type from (rise into the face, rise along the line, steepness) of each face beside a line."""
    if len(sides) > 1:
        (one, along, _), (two, other, _) = sides[:2]
        if np.isnan(one + two):
            return INNER
        if abs(one) <= FLAT and abs(two) <= FLAT:
            return INNER
        if one < -FLAT and two < -FLAT:
            return RIDGE if abs(along + other) / 2 <= LEVEL else HIP
        return VALLEY if one > FLAT and two > FLAT else BREAK
    if not sides or np.isnan(sides[0][0]):
        return OUTLINE
    up, along, steepness = sides[0]
    if steepness <= FLAT:
        return OUTLINE
    if abs(along) >= ACROSS * steepness:
        return VERGE
    return EAVE if up > FLAT and abs(along) <= ALONG * steepness else OUTLINE
