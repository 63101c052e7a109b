"""Wireframes of overlapping tiles become one: what a tile's border cut gives way to what another tile saw whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from projects.roofline.geometry.planar import clean_planar
from projects.roofline.wireframe import Wireframe

CELL = 4.0  # pixels: of the network's maps
SAME_TILE = 1.0  # pixels: within one tile only what is closer becomes one junction; the network has told them apart


@dataclass(frozen=True, eq=False)
class Tile:
    """What was predicted in one tile.

    Attributes:
        left, top, width, height: the tile in pixels of the whole image.
        wireframe: in pixels of the whole image.
    """

    left: int
    top: int
    width: int
    height: int
    wireframe: Wireframe


def merge_tiles(tiles: Sequence[Tile], size: tuple[int, int], snap: float, margin: float | None = None) -> Wireframe:
    """Merge the wireframes of overlapping tiles into one planar wireframe.

    1. An end within ``margin`` of a tile's border inside the image may be a cut, not a corner: it is not trusted.
    2. Ends that are trusted, of different tiles, within ``snap`` of each other become one, nearest first. Ends of one
       tile stay apart (but for :data:`SAME_TILE`), so that narrow details survive.
    3. A line with an untrusted end goes where lines seen whole cover it; one that runs along the border of its tile
       goes where another tile has that place inside: between the ends of cut lines there are lines that are none.
    4. The others are joined where they continue each other: both on one straight line, and overlapping.
    5. The result is cleaned (:func:`projects.roofline.geometry.planar.clean_planar`), lines led through junctions
       within ``snap``. Scores are the highest of what was merged, a junction's type that of the best one; a
       crossing has none.

    Args:
        tiles: in any order.
        size: height and width of the image in pixels.
        snap: pixels, above 0.
        margin: pixels; default the larger of ``snap`` and 4, a cell of the maps.
    """
    margin = max(snap, CELL) if margin is None else margin
    points, point_scores, point_tiles, lines, scores, sides, types = _gathered(tiles, size, margin)
    along = np.flatnonzero((sides[lines[:, 0]] & sides[lines[:, 1]]).any(axis=1))
    lines, scores = (np.delete(values, along[_inside(points[lines[along]].mean(axis=1), tiles, size, margin)], axis=0)
                     for values in (lines, scores))
    trusted = ~sides.any(axis=1)
    points, labels = _snapped(points, point_scores, point_tiles, trusted, snap)
    lines = labels[lines]
    merged_scores = np.zeros(len(points))
    np.maximum.at(merged_scores, labels, point_scores)
    merged_types = None
    if any(tile.wireframe.junction_types is not None for tile in tiles):
        merged_types = np.full(len(points), -1)
        best_last = np.lexsort((-types, point_scores))  # of equal scores the lower type, whatever the order of tiles
        merged_types[labels[best_last]] = types[best_last]
    sure = np.zeros(len(points), bool)
    sure[labels[trusted]] = True
    whole = sure[lines].all(axis=1)
    cut = np.flatnonzero(~whole)
    cut = cut[~_covered(points[lines[cut]], points[lines[whole]], snap)]
    ends, kept_scores, replaced = _joined_pieces(points, lines[cut], scores[cut], sure, snap)
    lines = np.concatenate([lines[whole], ends, lines[cut][~replaced]])
    scores = np.concatenate([scores[whole], kept_scores, scores[cut][~replaced]])
    return _cleaned(points, merged_scores, merged_types, lines, scores, snap)


def _cleaned(points: np.ndarray, point_scores: np.ndarray, types: np.ndarray | None, lines: np.ndarray,
             scores: np.ndarray, snap: float) -> Wireframe:
    junctions, cleaned, origin = clean_planar(points, lines, min(SAME_TILE, snap), point_scores, scores, contact=snap)
    found, kinds = np.zeros(len(junctions)), None if types is None else np.zeros(len(junctions), np.int64)
    if len(junctions):
        distance, nearest = cKDTree(points).query(junctions)
        touching = np.zeros(len(junctions))
        np.maximum.at(touching, cleaned, np.stack([scores[origin]] * 2, axis=1))
        found = np.where(distance <= snap, point_scores[nearest], touching)  # a crossing is as sure as its lines
        kinds = None if types is None else np.where(distance <= snap, types[nearest], -1)
    return Wireframe(junctions, found, cleaned, scores[origin], kinds)


def _gathered(tiles: Sequence[Tile], size: tuple[int, int], margin: float) -> tuple[np.ndarray, ...]:
    """Return all ends (points, scores, tiles), all lines (indices, scores), near which inner sides an end is, its type.

    The sides are ``(N, 4)`` bool: left, right, top, bottom. Types that are not known are -1.
    """
    parts: list[tuple[np.ndarray, ...]] = [(
        np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0),
        np.zeros((0, 4), bool), np.zeros(0, np.int64))]
    offset = 0
    for number, tile in enumerate(tiles):
        frame = tile.wireframe
        left, bottom, right, top = _trusted_box(tile, size, margin)
        x, y = frame.junctions.T
        sides = np.stack([x < left, x > right, y < bottom, y > top], axis=1)
        parts.append((frame.junctions, frame.junction_scores, np.full(len(x), number), frame.lines + offset,
                      frame.scores, sides,
                      np.full(len(x), -1) if frame.junction_types is None else frame.junction_types))
        offset += len(x)
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _trusted_box(tile: Tile, size: tuple[int, int], margin: float) -> tuple[float, float, float, float]:
    """Return low x, low y, high x, high y of where a tile's ends are trusted; no limits at the image's border."""
    low = [start + margin if start > 0 else -np.inf for start in (tile.left, tile.top)]
    high = [start + length - margin if start + length < limit else np.inf
            for start, length, limit in ((tile.left, tile.width, size[1]), (tile.top, tile.height, size[0]))]
    return low[0], low[1], high[0], high[1]


def _inside(points: np.ndarray, tiles: Sequence[Tile], size: tuple[int, int], margin: float) -> np.ndarray:
    """Say which points ``(P, 2)`` some tile has in its trusted part."""
    inside = np.zeros(len(points), bool)
    if len(points):
        boxes = np.clip([_trusted_box(tile, size, margin) for tile in tiles], -1.0, max(size) + 1.0)
        inside[shapely.STRtree(shapely.box(*boxes.T)).query(shapely.points(points), predicate='within')[0]] = True
    return inside


def _snapped(points: np.ndarray, scores: np.ndarray, tiles: np.ndarray, trusted: np.ndarray,
             snap: float) -> tuple[np.ndarray, np.ndarray]:
    """Merge trusted points of different tiles, nearest pairs first; return merged points and the group of each."""
    group = np.arange(len(points))
    members = {}
    sure = np.flatnonzero(trusted)
    if len(sure):
        pairs = sure[cKDTree(points[sure]).query_pairs(snap, output_type='ndarray')]
        pairs = pairs[tiles[pairs[:, 0]] != tiles[pairs[:, 1]]]
        pairs = pairs[np.argsort(np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1), kind='stable')]
        for one, other in pairs.tolist():
            a, b = group[one], group[other]
            first, second = members.get(a, [a]), members.get(b, [b])
            if a != b and not {*tiles[first]} & {*tiles[second]}:
                group[second] = a
                members[a] = [*first, *second]
    _, labels = np.unique(group, return_inverse=True)
    weights = np.maximum(scores, 1e-12)
    total = np.bincount(labels, weights)
    merged = np.stack([np.bincount(labels, weights * points[:, axis], len(total)) / total for axis in (0, 1)], axis=1)
    alone = np.bincount(labels)[labels] == 1
    merged[labels[alone]] = points[alone]
    return merged, labels


def _covered(pieces: np.ndarray, whole: np.ndarray, snap: float) -> np.ndarray:
    """Say which pieces ``(P, 2, 2)`` lie within ``snap`` of one line of ``whole`` ``(W, 2, 2)``."""
    covered = np.zeros(len(pieces), bool)
    if len(pieces) and len(whole):
        lines = shapely.linestrings(whole)
        piece, line = shapely.STRtree(lines).query(shapely.points(pieces[:, 0]), predicate='dwithin', distance=snap)
        covered[piece[shapely.dwithin(lines[line], shapely.points(pieces[piece, 1]), snap)]] = True
    return covered


def _joined_pieces(points: np.ndarray, lines: np.ndarray, scores: np.ndarray, sure: np.ndarray,
                   snap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join pieces that continue each other.

    Two pieces belong together where an end of each lies within ``snap`` of the other, or both ends of one do, and the
    stretch that they share is longer than ``2 snap``.

    Returns:
        The joined lines ``(K, 2)``, their scores, and which of the pieces are in them.
    """
    none = np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(len(lines), bool)
    if len(lines) < 2:
        return none
    segments = points[lines]
    geometries = shapely.linestrings(segments)
    one, other = shapely.STRtree(geometries).query(geometries, predicate='dwithin', distance=snap)
    one, other = one[one < other], other[one < other]
    on_other = np.stack([shapely.distance(shapely.points(segments[one, k]), geometries[other]) <= snap
                         for k in (0, 1)], axis=1)
    on_one = np.stack([shapely.distance(shapely.points(segments[other, k]), geometries[one]) <= snap
                       for k in (0, 1)], axis=1)
    touching = (on_other.any(axis=1) & on_one.any(axis=1)) | on_other.all(axis=1) | on_one.all(axis=1)
    one, other, on_one, on_other = one[touching], other[touching], on_one[touching], on_other[touching]
    shared = np.concatenate([segments[one], segments[other]], axis=1)  # those on the other span the overlap
    spread = np.where(np.concatenate([on_other, on_one], axis=1), _along(shared, segments[one]), np.nan)
    long = np.nanmax(spread, axis=1, initial=-np.inf) - np.nanmin(spread, axis=1, initial=np.inf) > 2 * snap
    if not long.any():
        return none
    graph = coo_matrix((np.ones(long.sum()), (one[long], other[long])), shape=(len(lines),) * 2)
    labels = connected_components(graph, directed=False)[1]
    joined, kept, replaced = [], [], np.bincount(labels)[labels] > 1
    for label in np.unique(labels[replaced]):
        members = np.flatnonzero(labels == label)
        longest = members[np.argmax(np.linalg.norm(segments[members, 1] - segments[members, 0], axis=1))]
        ends = lines[members].ravel()
        place = _along(points[ends][None], segments[longest][None])[0]
        joined.append([_extreme(ends, -place, sure, snap), _extreme(ends, place, sure, snap)])
        kept.append(scores[members].max())
    return np.array(joined, np.int64), np.array(kept), replaced


def _extreme(ends: np.ndarray, place: np.ndarray, sure: np.ndarray, snap: float) -> int:
    """Return the furthest end, or one as far (within ``snap``) that is trusted."""
    last = ends[place >= place.max() - snap]
    trusted = last[sure[last]]
    return int(trusted[0] if len(trusted) else ends[np.argmax(place)])


def _along(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Positions ``(P, k)`` of points ``(P, k, 2)`` along segments ``(P, 2, 2)``, in pixels from the first end."""
    direction = segments[:, 1] - segments[:, 0]
    length = np.maximum(np.linalg.norm(direction, axis=1), 1e-12)
    return ((points - segments[:, None, 0]) * direction[:, None]).sum(axis=2) / length[:, None]
