"""Expected calibration error: how far a network's confidence is from its accuracy.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3, taken over pixels.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from projects.engine.errors import UserError

BINS = 15


@dataclass
class Calibration:
    """Accumulated bins of confidence, addable over samples and ranks.

    Bin ``b`` of B holds the pixels whose confidence (the largest class probability) is in ``(b/B, (b+1)/B]``.
    """

    count: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))  # (B,) pixels
    correct: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))  # (B,) pixels that were right
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.float64))  # (B,) sum of confidences

    def add(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Count pixels: ``confidence`` (N,) in 0..1, ``right`` (N,) bool."""
        bins = len(self.count)
        confidence = confidence.astype(np.float64)
        if confidence.size and not np.isfinite(confidence).all():
            raise UserError("the network's confidence is not finite (NaN or infinite logits)")
        index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
        self.count += np.bincount(index, minlength=bins)
        self.correct += np.bincount(index[right], minlength=bins)
        self.confidence += np.bincount(index, weights=confidence, minlength=bins)

    def __add__(self, other: 'Calibration') -> 'Calibration':
        return Calibration(
            self.count + other.count, self.correct + other.correct, self.confidence + other.confidence)

    @property
    def accuracy(self) -> np.ndarray:
        """Share of right pixels in each bin, NaN in an empty bin."""
        return _mean(self.correct, self.count)

    @property
    def mean_confidence(self) -> np.ndarray:
        """Mean confidence in each bin, NaN in an empty bin."""
        return _mean(self.confidence, self.count)

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over pixels of each bin's |accuracy - confidence|; NaN without pixels.

        Not above 1; 0 is perfect.
        """
        total = int(self.count.sum())
        if total == 0:
            return math.nan
        return float(np.abs(self.correct - self.confidence).sum() / total)

    def to_dict(self) -> dict:
        """Return the bins and the error as plain numbers for JSON."""
        return {
            'ECE': self.error,
            'bins': len(self.count),
            'count': self.count.tolist(),
            'correct': self.correct.tolist(),
            'sum_of_confidence': self.confidence.tolist(),
        }

    @classmethod
    def from_dict(cls, value: dict) -> 'Calibration':
        """Rebuild what :meth:`to_dict` wrote."""
        return cls(np.array(value['count'], np.int64), np.array(value['correct'], np.int64),
                   np.array(value['sum_of_confidence'], np.float64))


def confidence_of(scores: torch.Tensor, are_probabilities: bool = False) -> torch.Tensor:
    """Return the largest class probability of each pixel, ``(C, H, W) -> (H, W)`` float32.

    Args:
        scores: logits, or probabilities when ``are_probabilities``. With C = 1 the two classes are ``sigmoid`` and
            its complement.
    """
    scores = scores.float()  # bf16 keeps 8 bits: too coarse for 15 bins near 1
    if scores.shape[0] == 1:
        probability = scores[0] if are_probabilities else scores[0].sigmoid()
        return torch.maximum(probability, 1 - probability)
    if are_probabilities:
        return scores.amax(dim=0)
    return 1 / (scores - scores.amax(dim=0, keepdim=True)).exp().sum(dim=0)  # max softmax


def _mean(part: np.ndarray, count: np.ndarray) -> np.ndarray:
    result = np.full(len(count), math.nan)
    np.divide(part, count, out=result, where=count > 0)
    return result
