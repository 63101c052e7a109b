"""A wireframe as it is predicted: junctions and scored lines between them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Wireframe:
    """Scored lines between scored junctions.

    Attributes:
        junctions: ``(J, 2)`` float64 (x, y) pixels, x right, y down, pixel-corner origin.
        junction_scores: ``(J,)`` float64, 0..1.
        lines: ``(L, 2)`` int64 indices of junctions.
        scores: ``(L,)`` float64, 0..1.
    """

    junctions: np.ndarray
    junction_scores: np.ndarray
    lines: np.ndarray
    scores: np.ndarray

    @classmethod
    def make(cls, junctions, lines=(), scores=None, junction_scores=None) -> 'Wireframe':
        """Convert array-likes to a wireframe; scores that are not given are 1."""
        junctions = np.asarray(junctions, np.float64).reshape(-1, 2)
        lines = np.asarray(lines, np.int64).reshape(-1, 2)
        scores = np.ones(len(lines)) if scores is None else np.asarray(scores, np.float64).reshape(len(lines))
        if junction_scores is None:
            junction_scores = np.ones(len(junctions))
        return cls(junctions, np.asarray(junction_scores, np.float64).reshape(len(junctions)), lines, scores)

    def segments(self) -> np.ndarray:
        """Return the lines as ``(L, 2, 2)`` float64 (x, y)."""
        return self.junctions[self.lines]

    def moved(self, x: float, y: float) -> 'Wireframe':
        """Return the wireframe shifted by ``(x, y)`` pixels."""
        return Wireframe(self.junctions + [x, y], self.junction_scores, self.lines, self.scores)

    def above(self, threshold: float) -> 'Wireframe':
        """Return the wireframe with only the lines of at least ``threshold``, and only their junctions."""
        keep = self.scores >= threshold
        used, lines = np.unique(self.lines[keep], return_inverse=True)
        return Wireframe(self.junctions[used], self.junction_scores[used], lines.reshape(-1, 2).astype(np.int64),
                         self.scores[keep])
