"""Weighted sums of probabilities for the points that later patches can still change: a strip of the tile."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CHUNK = 200_000  # points handed out at once: what is computed of them is as large again
SPARE = 1.25  # room beyond what is asked for, so that growing copies seldom


@dataclass(frozen=True)
class Strip:
    """Finished points: no later patch holds them.

    Attributes:
        start, stop: Their places in the order of the accumulator.
        probabilities: (S, n, C) float32, the weighted mean of each scale; 0 where it has no patch.
        covered: (S, n) bool: the scale has a patch there.
    """

    start: int
    stop: int
    probabilities: np.ndarray
    covered: np.ndarray

    def __len__(self) -> int:
        return self.stop - self.start


class StripAccumulator:
    """Sums by place, for a range of places that only moves forward.

    A place is a point's rank along the tile. Patches come in the order of their first place, so everything before it
    is finished; memory is that of the places between, ``scales x places x (classes + 1)`` float32, whatever the tile.

    Args:
        scales: Number of scales S, each with sums of its own.
        classes: Number of classes C.
    """

    def __init__(self, scales: int, classes: int) -> None:
        self.first = self.end = 0
        self._sums = np.zeros((scales, 0, classes), np.float32)
        self._weights = np.zeros((scales, 0), np.float32)

    def add(self, scale: int, places: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> None:
        """Add one patch.

        Args:
            scale: Index of its scale.
            places: (n,) integers, none twice, none before :attr:`first`.
            probabilities: (n, C) float32.
            weights: (n,) float32, above 0.

        Raises:
            ValueError: A place is finished already.
        """
        if not len(places):
            return
        if int(places.min()) < self.first:
            raise ValueError(f'place {int(places.min())} is finished already: the strip begins at {self.first}')
        self._reach(int(places.max()) + 1)
        own = places.astype(np.int64) - self.first
        self._sums[scale, own] += probabilities * weights[:, None]
        self._weights[scale, own] += weights

    def take(self, until: int) -> Iterator[Strip]:
        """Yield the places from :attr:`first` to ``until``, which are finished, in strips of :data:`CHUNK` points.

        They are forgotten after the last one: ask for all before anything else is added.
        """
        until = max(until, self.first)
        self._reach(until)
        begin = self.first
        for start in range(begin, until, CHUNK):
            own = slice(start - begin, min(start + CHUNK, until) - begin)
            weights = self._weights[:, own].copy()
            covered = weights > 0
            probabilities = self._sums[:, own] / np.where(covered, weights, 1)[..., None]
            yield Strip(start, begin + own.stop, probabilities, covered)
        count, kept = until - begin, self.end - until
        for sums, total in zip(self._sums, self._weights):  # scale by scale: numpy copies what overlaps
            sums[:kept] = sums[count:count + kept]
            total[:kept] = total[count:count + kept]
            sums[kept:kept + count] = 0
            total[kept:kept + count] = 0
        self.first = until

    def _reach(self, end: int) -> None:
        self.end = max(self.end, end)
        room, needed = self._weights.shape[1], self.end - self.first
        if needed <= room:
            return
        more = int(needed * SPARE) - room
        self._sums = np.concatenate([self._sums, np.zeros((len(self._sums), more, self._sums.shape[2]), np.float32)], 1)
        self._weights = np.concatenate([self._weights, np.zeros((len(self._weights), more), np.float32)], 1)
