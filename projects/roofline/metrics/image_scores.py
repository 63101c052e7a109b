"""What one image contributes to the scores of wireframes: ranked hits and counts, small enough to be gathered."""

import math
from dataclasses import dataclass

import numpy as np

from projects.roofline.graph import RoofGraph
from projects.roofline.metrics.faces import face_counts, faces_of_lines, true_faces
from projects.roofline.metrics.heat_map import heat_counts
from projects.roofline.metrics.matching import cells_per_pixel, match_junctions, match_lines
from projects.roofline.wireframe import LINE_SCORE, Wireframe

LINE_THRESHOLDS = (1, 5, 10, 15)  # squared cells
OPERATING = LINE_THRESHOLDS.index(10)  # what precision, recall and endpoint errors are taken at
JUNCTION_THRESHOLDS = (0.5, 1.0, 2.0)  # cells


@dataclass(frozen=True, eq=False)
class ImageScores:
    """The hits and counts of one image; scores are made of them by
    :func:`~projects.roofline.metrics.split_scores.split_scores`."""

    lines: int  # true ones
    junctions: int  # true ones
    scores: np.ndarray  # (L,) descending
    hits: np.ndarray  # (4, L) bool, at LINE_THRESHOLDS
    errors: np.ndarray  # (L,) pixels, mean of the two ends of a line, NaN where there is no true line
    junction_scores: np.ndarray  # (J,) descending
    junction_hits: np.ndarray  # (3, J) bool, at JUNCTION_THRESHOLDS
    above: int  # lines that score at least the threshold
    faces: np.ndarray  # (3,) matched, predicted, true faces
    heat: np.ndarray | None = None  # (thresholds, 3) matched, predicted, true cells; None: not measured
    unverified_scores: np.ndarray | None = None  # (U,) descending
    unverified_hits: np.ndarray | None = None  # (U,) bool, at 10
    resolution: float | None = None  # metres a pixel


def score_image(predicted: Wireframe, truth: RoofGraph, size: tuple[int, int], *, threshold: float = LINE_SCORE,
                unverified: Wireframe | None = None, heat_map: bool = True, resolution: float | None = None
                ) -> ImageScores:
    """Compare one image's wireframe with its truth at the 128 scale.

    Args:
        predicted: junctions and scored lines in pixels; where it tells types of junctions, a true one is only found
            by one of its type (0 where the truth tells none).
        truth: in the same pixels.
        size: (height, width) of the image.
        threshold: lines that score at least as much count for precision, recall, endpoint error and faces.
        unverified: the same image's pairs of junctions as they are ranked without a verification.
        heat_map: also count the cells of APH and FH, which takes most of the time.
        resolution: metres a pixel, where it is known.
    """
    scale = cells_per_pixel(size)
    lines, true_lines = predicted.segments() * scale, truth.segments() * scale
    ranked = match_lines(lines, predicted.scores, true_lines, LINE_THRESHOLDS)
    lines = lines[ranked.order]
    above = int((ranked.scores >= threshold).sum())
    junction_scores, junction_hits = match_junctions(
        predicted.junctions * scale, predicted.junction_scores, truth.junctions * scale, JUNCTION_THRESHOLDS,
        predicted.junction_types, truth.junction_types)
    faces = true_faces(truth.junctions * scale, truth.faces) if truth.faces else faces_of_lines(true_lines)
    shape = tuple(max(math.ceil(side * scale - 1e-9), 1) for side in size)
    other = None if unverified is None else match_lines(
        unverified.segments() * scale, unverified.scores, true_lines, (LINE_THRESHOLDS[OPERATING],))
    return ImageScores(
        lines=len(true_lines), junctions=len(truth.junctions), scores=ranked.scores, hits=ranked.hits,
        errors=ranked.errors / scale, junction_scores=junction_scores, junction_hits=junction_hits, above=above,
        faces=face_counts(lines[:above], faces),
        heat=heat_counts(lines, ranked.scores, true_lines, shape) if heat_map else None,
        unverified_scores=None if other is None else other.scores,
        unverified_hits=None if other is None else other.hits[0], resolution=resolution)
