"""Clean lines into a planar graph: ends snapped, lines split where they touch or cross, overlaps merged."""

import numpy as np
import shapely
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

SMALLEST = 1e-9  # pixels: what counts as the same place where the tolerance is 0
ROUNDS = 20  # splitting bends lines by up to the tolerance, which can bring new contacts


def clean_planar(
    junctions: np.ndarray,
    lines: np.ndarray,
    tolerance: float,
    weights: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    contact: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a planar graph of lines: in the result lines meet at junctions only.

    In this order: ends within ``tolerance`` of each other become one (their weighted mean); lines without length go;
    a line with a junction within ``contact`` of its inside is led through it; lines that cross get a junction
    there; of equal pieces one stays; and where a line was split for nothing (two overlapping lines end inside each
    other, and no third line meets them) the pieces are joined again.

    Args:
        junctions: ``(N, 2)`` (x, y). Those without a line are dropped.
        lines: ``(M, 2)`` indices of junctions.
        tolerance: in the unit of the junctions, at least 0. Lines shorter than it vanish.
        weights: ``(N,)``, for the means of snapped junctions; default 1.
        scores: ``(M,)``: of equal pieces the one of the highest score stays; default the first line's.
        contact: from which distance a line is led through a junction; default ``tolerance``.

    Returns:
        junctions ``(N', 2)`` float64, lines ``(M', 2)`` int64, and ``(M',)`` int64: the line that each one comes from.

    Raises:
        ValueError: a tolerance or a contact below 0.
    """
    contact = tolerance if contact is None else contact
    if not (tolerance >= 0 and contact >= 0):
        raise ValueError(f'tolerance, contact: expected at least 0, found {tolerance} and {contact}')
    tolerance, contact = max(float(tolerance), SMALLEST), max(float(contact), SMALLEST)
    points = np.asarray(junctions, np.float64).reshape(-1, 2)
    lines = np.asarray(lines, np.int64).reshape(-1, 2)
    rank = _ranks(len(lines), scores)
    origin = np.arange(len(lines))
    used, compact = np.unique(lines, return_inverse=True)
    lines = compact.reshape(-1, 2)
    points, labels = snap_points(points[used], tolerance, None if weights is None else np.asarray(weights)[used])
    lines, origin = _unique(labels[lines], origin, rank)
    passed = np.zeros(len(points), bool)  # junctions that lie inside an old line
    for _ in range(ROUNDS):
        line, position, junction = _contacts(points, lines, contact)
        if len(line) == 0:
            points, line, position, junction = _crossings(points, lines, contact)
            passed = np.append(passed, np.zeros(len(points) - len(passed), bool))
            if len(line) == 0:
                break
        passed[junction] = True
        lines, origin = _unique(*_split(lines, origin, line, position, junction), rank)
    lines, origin = _joined(points, lines, origin, passed, rank, contact)
    used, compact = np.unique(lines, return_inverse=True)
    return points[used], compact.reshape(-1, 2).astype(np.int64), origin


def snap_points(points: np.ndarray, tolerance: float,
                weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Merge points that lie within ``tolerance`` of each other into their weighted mean.

    Chains do not run away: where the points linked by the tolerance spread over more than it, they are grouped by
    complete linkage, so that no two points of a group are further apart than the tolerance.

    Args:
        points: ``(N, 2)``.
        tolerance: above 0.
        weights: ``(N,)``, at least 0; default 1.

    Returns:
        ``(K, 2)`` merged points, in the order of their first members, and ``(N,)`` int64: the group of each point.
    """
    count = len(points)
    if count == 0:
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    pairs = cKDTree(points).query_pairs(tolerance, output_type='ndarray')
    if len(pairs) == 0:
        return points.copy(), np.arange(count)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1].astype(np.int64)
    labels = _broken_chains(points, labels, tolerance)
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    labels = order[labels]
    weights = np.ones(count) if weights is None else np.maximum(np.asarray(weights, np.float64), 1e-12)
    total = np.bincount(labels, weights)
    merged = np.stack([np.bincount(labels, weights * points[:, axis]) / total for axis in (0, 1)], axis=1)
    alone = np.bincount(labels)[labels] == 1
    merged[labels[alone]] = points[alone]  # to the last bit
    return merged, labels


def _broken_chains(points: np.ndarray, labels: np.ndarray, tolerance: float) -> np.ndarray:
    """Split groups that spread over more than the tolerance by complete linkage."""
    low = np.full((labels.max() + 1, 2), np.inf)
    high = -low
    np.minimum.at(low, labels, points)
    np.maximum.at(high, labels, points)
    wide = np.hypot(*(high - low).T) > tolerance
    order = np.argsort(labels, kind='stable')
    bounds = np.searchsorted(labels[order], np.arange(len(wide) + 1))
    labels, following = labels.copy(), len(wide)
    for group in np.flatnonzero(wide):
        members = order[bounds[group]:bounds[group + 1]]
        parts = fcluster(linkage(points[members], 'complete'), tolerance, 'distance')
        labels[members] = following + parts
        following += parts.max() + 1
    return labels


def _ranks(count: int, scores: np.ndarray | None) -> np.ndarray:
    """Return ``(count,)``: lower is better."""
    rank = np.empty(count, np.int64)
    by_score = np.zeros(count) if scores is None else -np.asarray(scores, np.float64)
    rank[np.argsort(by_score, kind='stable')] = np.arange(count)
    return rank


def _unique(lines: np.ndarray, origin: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop lines without length, and of lines between the same junctions all but the best."""
    keep = np.flatnonzero(lines[:, 0] != lines[:, 1])
    keep = keep[np.argsort(rank[origin[keep]], kind='stable')]
    _, first = np.unique(np.sort(lines[keep], axis=1), axis=0, return_index=True)
    keep = np.sort(keep[first])
    return lines[keep], origin[keep]


def _contacts(points: np.ndarray, lines: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find junctions near the inside of a line: line, position along it (0..1), junction."""
    used = np.unique(lines)
    segments = points[lines]
    tree = shapely.STRtree(shapely.linestrings(segments))
    near, line = tree.query(shapely.points(points[used]), predicate='dwithin', distance=tolerance)
    junction = used[near]
    foreign = (lines[line] != junction[:, None]).all(axis=1)
    line, junction = line[foreign], junction[foreign]
    start, along = segments[line, 0], segments[line, 1] - segments[line, 0]
    position = ((points[junction] - start) * along).sum(axis=1) / (along**2).sum(axis=1)
    inside = (position > 0) & (position < 1)
    # What snap_points left apart from an end stays apart, and both pieces are shorter than the line: so this ends.
    pieces = np.linalg.norm(points[junction, None] - segments[line], axis=2)
    inside &= (pieces > tolerance).all(axis=1) & (pieces.max(axis=1, initial=0) < np.linalg.norm(along, axis=1))
    return line[inside], position[inside], junction[inside]


def _crossings(points: np.ndarray, lines: np.ndarray,
               tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Add a junction where two lines cross: points with the new ones, then as :func:`_contacts`."""
    segments = points[lines]
    geometries = shapely.linestrings(segments)
    one, other = shapely.STRtree(geometries).query(geometries, predicate='crosses')
    one, other = one[one < other], other[one < other]
    apart = (lines[one][:, :, None] != lines[other][:, None, :]).all(axis=(1, 2))
    one, other = one[apart], other[apart]
    a, b = segments[one, 1] - segments[one, 0], segments[other, 1] - segments[other, 0]
    between = segments[other, 0] - segments[one, 0]
    turn = _cross(a, b)
    with np.errstate(divide='ignore', invalid='ignore'):
        s, t = _cross(between, b) / turn, _cross(between, a) / turn
    real = (s > 0) & (s < 1) & (t > 0) & (t < 1)
    one, other, s, t, a = one[real], other[real], s[real], t[real], a[real]
    if len(one) == 0:
        return points, one, s, one
    places, labels = snap_points(segments[one, 0] + s[:, None] * a, tolerance)
    used = np.unique(lines)
    distance, nearest = cKDTree(points[used]).query(places)
    new = distance > tolerance
    junction = np.where(new, len(points) + np.cumsum(new) - 1, used[nearest])[labels]
    line, position, junction = np.append(one, other), np.append(s, t), np.tile(junction, 2)
    points = np.concatenate([points, places[new]])
    foreign = (lines[line] != junction[:, None]).all(axis=1)
    return points, line[foreign], position[foreign], junction[foreign]


def _split(lines: np.ndarray, origin: np.ndarray, line: np.ndarray, position: np.ndarray,
           junction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lead lines through junctions, in the order of their positions."""
    every = np.arange(len(lines))
    line = np.concatenate([every, line, every])
    position = np.concatenate([np.full(len(lines), -1.0), position, np.full(len(lines), 2.0)])
    junction = np.concatenate([lines[:, 0], junction, lines[:, 1]])
    order = np.lexsort((position, line))
    line, junction = line[order], junction[order]
    inner = line[1:] == line[:-1]
    return np.stack([junction[:-1][inner], junction[1:][inner]], axis=1), origin[line[1:][inner]]


def _joined(points: np.ndarray, lines: np.ndarray, origin: np.ndarray, passed: np.ndarray, rank: np.ndarray,
            tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Join the two pieces at junctions inside an old line that no third line meets, where that stays straight."""
    degree = np.bincount(lines.ravel(), minlength=len(points))
    chosen = np.flatnonzero(passed & (degree == 2))
    if len(chosen) == 0:
        return lines, origin
    lines, origin, alive = lines.copy(), origin.copy(), np.ones(len(lines), bool)
    order = np.argsort(lines.ravel(), kind='stable')
    start = np.searchsorted(lines.ravel()[order], chosen)
    at = {int(j): [int(order[k] // 2), int(order[k + 1] // 2)] for j, k in zip(chosen, start, strict=True)}
    ends = {tuple(pair) for pair in np.sort(lines, axis=1).tolist()}
    inside = {line: [] for pair in at.values() for line in pair}  # junctions that a joined line has swallowed
    for junction, (first, second) in at.items():
        a, b = (int(lines[line].sum()) - junction for line in (first, second))
        key = (min(a, b), max(a, b))
        swallowed = [*inside[first], junction, *inside[second]]
        if a == b or key in ends or not _straight(points[swallowed], points[a], points[b], tolerance):
            continue
        ends -= {tuple(sorted(lines[first].tolist())), tuple(sorted(lines[second].tolist()))}
        ends.add(key)
        if rank[origin[second]] < rank[origin[first]]:
            origin[first] = origin[second]
        lines[first], alive[second], inside[first] = (a, b), False, swallowed
        if b in at:
            at[b][at[b].index(second)] = first
    return lines[alive], origin[alive]


def _straight(points: np.ndarray, start: np.ndarray, end: np.ndarray, tolerance: float) -> bool:
    along = end - start
    length = np.hypot(*along)
    return bool(length > 0 and (np.abs(_cross(points - start, along)) <= tolerance * length).all())


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
