"""Which part of a line is hidden, as a share of its length from its first junction."""

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from projects.roofline.graph import RoofGraph

JOINED = 1.0  # px: hidden parts with no more than that between them are one


def hidden_parts(segment: np.ndarray, cover: BaseGeometry, known: np.ndarray | None = None) -> np.ndarray:
    """Return the hidden parts of a line, (n, 2) float64 shares from its first end, in order and not touching.

    Args:
        segment: (2, 2): the ends, (x, y) px.
        cover: What hides it, same coordinates.
        known: (2,): a part that was hidden before; NaN or without length for none.
    """
    step = segment[1] - segment[0]
    length = float(np.hypot(*step))
    parts = []
    for piece in shapely.get_parts(shapely.intersection(shapely.linestrings(segment), cover)):
        share = (shapely.get_coordinates(piece) - segment[0]) @ step / length**2
        if len(share) > 1:  # else it only touches
            parts.append((share.min(), share.max()))
    if known is not None and known[0] < known[1]:
        parts.append(tuple(known))
    joined: list[list[float]] = []
    for first, last in sorted(parts):
        if joined and (first - joined[-1][1]) * length <= JOINED:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return np.clip(np.array(joined, float).reshape(-1, 2), 0.0, 1.0)


def hide(graph: RoofGraph, cover: BaseGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Return what a cover makes of a graph's occlusions.

    Args:
        graph: Its occlusions stay where the cover does not touch the line.
        cover: A polygon or several, (x, y) px.

    Returns:
        (M, 2) float64 intervals: of a line that the cover crosses, from where it is first hidden to where it is last,
        as long as that is one part; NaN where it is several. And (M,) float64: the hidden share of each line, 0 where
        the cover does not touch it.
    """
    occlusions, shares = graph.occlusions.copy(), np.zeros(len(graph.lines))
    segments = graph.segments()
    if not len(segments):
        return occlusions, shares
    shapely.prepare(cover)
    for line in np.nonzero(shapely.intersects(cover, shapely.linestrings(segments)))[0]:
        parts = hidden_parts(segments[line], cover, occlusions[line])
        if len(parts):
            shares[line] = (parts[:, 1] - parts[:, 0]).sum()
            occlusions[line] = parts[0] if len(parts) == 1 else np.nan
    return occlusions, shares
