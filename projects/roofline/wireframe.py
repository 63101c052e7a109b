"""A wireframe as it is predicted: junctions and scored lines between them."""

from dataclasses import dataclass, replace

import numpy as np

LINE_SCORE = 0.9  # from which a line is taken for one; the loss weighs the few true and the many false ones alike


@dataclass(frozen=True, eq=False)
class Wireframe:
    """Scored lines between scored junctions.

    Attributes:
        junctions: ``(J, 2)`` float64 (x, y) pixels, x right, y down, pixel-corner origin.
        junction_scores: ``(J,)`` float64, 0..1.
        lines: ``(L, 2)`` int64 indices of junctions.
        scores: ``(L,)`` float64, 0..1.
        junction_types: ``(J,)`` int64, classes of the junctions, -1 where none is known; None of a network of one.
    """

    junctions: np.ndarray
    junction_scores: np.ndarray
    lines: np.ndarray
    scores: np.ndarray
    junction_types: np.ndarray | None = None

    @classmethod
    def make(cls, junctions, lines=(), scores=None, junction_scores=None, junction_types=None) -> 'Wireframe':
        """Convert array-likes to a wireframe; scores that are not given are 1."""
        junctions = np.asarray(junctions, np.float64).reshape(-1, 2)
        lines = np.asarray(lines, np.int64).reshape(-1, 2)
        scores = np.ones(len(lines)) if scores is None else np.asarray(scores, np.float64).reshape(len(lines))
        if junction_scores is None:
            junction_scores = np.ones(len(junctions))
        if junction_types is not None:
            junction_types = np.asarray(junction_types, np.int64).reshape(len(junctions))
        return cls(junctions, np.asarray(junction_scores, np.float64).reshape(len(junctions)), lines, scores,
                   junction_types)

    def segments(self) -> np.ndarray:
        """Return the lines as ``(L, 2, 2)`` float64 (x, y)."""
        return self.junctions[self.lines]

    def moved(self, x: float, y: float) -> 'Wireframe':
        """Return the wireframe shifted by ``(x, y)`` pixels."""
        return replace(self, junctions=self.junctions + [x, y])

    def above(self, threshold: float) -> 'Wireframe':
        """Return the wireframe with only the lines of at least ``threshold``, and only their junctions."""
        return self.kept(self.scores >= threshold)

    def kept(self, lines: np.ndarray) -> 'Wireframe':
        """Return the wireframe with only the lines that ``(L,)`` bool says, and only their junctions."""
        used, places = np.unique(self.lines[lines], return_inverse=True)
        return Wireframe(self.junctions[used], self.junction_scores[used], places.reshape(-1, 2).astype(np.int64),
                         self.scores[lines], None if self.junction_types is None else self.junction_types[used])
