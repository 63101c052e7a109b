"""Planar faces: those that predicted lines close, against those of the truth."""

import numpy as np
import shapely

MOST_LINES = 600  # the best-scored ones; a face of a roof needs far fewer, and all pairs are compared
CROSSING_MARGIN = 1.0  # cells: a line may overshoot another one's by so much
SMALLEST = 1.0  # cells²: slivers between lines that nearly coincide are no faces
OVERLAP = 0.5


def face_counts(lines: np.ndarray, true_faces: np.ndarray) -> np.ndarray:
    """Count the faces of one image.

    The predicted faces are the polygons that shapely's ``polygonize`` finds between the lines, split where they meet.
    A line that crosses a better one away from the ends of both is left out first, since a roof is a planar graph, and
    a single long false line would otherwise cut all faces it runs over. A predicted and a true face match when their
    intersection is at least half of their union; the best-overlapping pairs first, each face once.

    Args:
        lines: ``(L, 2, 2)`` ends in cells, best line first.
        true_faces: polygons in cells, of :func:`true_faces` or :func:`faces_of_lines`.

    Returns:
        ``(3,)`` int64: matched, predicted and true faces.
    """
    predicted = faces_of_lines(lines)
    return np.array([_matched(predicted, true_faces), len(predicted), len(true_faces)], np.int64)


def face_f1(counts: np.ndarray) -> float:
    """Return the F1, 0..1, of :func:`face_counts` summed over images; NaN where there are no true faces."""
    matched, predicted, truth = (int(count) for count in counts)
    return 2 * matched / (predicted + truth) if truth else float('nan')


def faces_of_lines(lines: np.ndarray) -> np.ndarray:
    """Return the polygons between lines ``(L, 2, 2)``, best line first; courtyards are polygons too."""
    lines = lines[:MOST_LINES]
    lines = lines[_planar(lines)] if len(lines) else lines
    if not len(lines):
        return np.zeros(0, object)
    return _large(shapely.get_parts(shapely.polygonize([shapely.union_all(shapely.linestrings(lines))])))


def true_faces(junctions: np.ndarray, faces: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return the polygons of rings of junctions ``(N, 2)`` in cells; a ring that touches itself is repaired."""
    return _large(shapely.make_valid(np.array([shapely.polygons(junctions[list(face)]) for face in faces], object)))


def _large(polygons: np.ndarray) -> np.ndarray:
    return polygons[shapely.area(polygons) >= SMALLEST] if len(polygons) else polygons


def _matched(predicted: np.ndarray, truth: np.ndarray) -> int:
    if not len(predicted) or not len(truth):
        return 0
    first, second = shapely.STRtree(truth).query(predicted, predicate='intersects')
    common = shapely.area(shapely.intersection(predicted[first], truth[second]))
    share = common / (shapely.area(predicted[first]) + shapely.area(truth[second]) - common)
    used: tuple[set[int], set[int]] = set(), set()
    for index in np.argsort(-share, kind='stable'):
        if share[index] < OVERLAP:
            break
        if first[index] not in used[0] and second[index] not in used[1]:
            used[0].add(first[index])
            used[1].add(second[index])
    return len(used[0])


def _planar(lines: np.ndarray) -> np.ndarray:
    """Return ``(L,)`` bool: the lines that cross no better line that stays."""
    crossing = _crossings(lines)
    kept = np.ones(len(lines), bool)
    for index in np.flatnonzero(crossing.any(axis=1)):
        kept[index] = not (crossing[index, :index] & kept[:index]).any()
    return kept


def _crossings(lines: np.ndarray) -> np.ndarray:
    """Return ``(L, L)`` bool: which lines cross farther than the margin from all four ends."""
    start, step = lines[:, 0], lines[:, 1] - lines[:, 0]
    length = np.hypot(*step.T)
    between = start[None] - start[:, None]  # (L, L, 2)
    turn = step[:, None, 0] * step[None, :, 1] - step[:, None, 1] * step[None, :, 0]
    with np.errstate(divide='ignore', invalid='ignore'):
        place = (between[..., 0] * step[None, :, 1] - between[..., 1] * step[None, :, 0]) / turn  # share of the row's
    place = place * length[:, None]
    inside = (place > CROSSING_MARGIN) & (place < length[:, None] - CROSSING_MARGIN)  # parallel ones: NaN or infinite
    return inside & inside.T
