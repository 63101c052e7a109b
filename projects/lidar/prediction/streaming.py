"""A tile's patches, of one or several scales, from one edge to the other: probabilities in strips of bounded memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from projects.engine.progress import progress
from projects.lidar.prediction.interpolation import spread
from projects.lidar.prediction.strips import Strip, StripAccumulator
from projects.lidar.prediction.window import centre_weights
from projects.lidar.store import Patch, Tile

PredictPatches = Callable[[Sequence[Patch]], Sequence[np.ndarray]]
"""From patches to class probabilities (n, C) float32 of their points, for each patch."""


@dataclass(frozen=True)
class PatchPlace:
    """A patch that is to be predicted: the index of its scale among those predicted, its number, its box."""

    scale: int
    number: int
    box: tuple[float, float, float, float]


def patch_places(tile: Tile, scales: Sequence[str], wanted: Mapping[str, Sequence[int]] | None = None,
                 ) -> list[PatchPlace]:
    """Return a tile's patches, all or those numbered, in the order of prediction: by their lower edge, then scale.

    In that order whatever lies below a patch's lower edge is finished, at all scales.
    """
    places = []
    for index, scale in enumerate(scales):
        boxes = np.asarray(tile.array(f'{scale}/patch_box'), np.float64)
        numbers = range(len(boxes)) if wanted is None else wanted.get(scale, ())
        places += [PatchPlace(index, int(number), tuple(boxes[number].tolist())) for number in numbers]
    return sorted(places, key=lambda place: (place.box[1], place.scale, place.box[0], place.number))


class TileStream:
    """Predict patches of a tile and yield the points that are finished, strip by strip, from low y to high.

    The network sees the first points of a patch's list (its farthest-point order); its answers are spread to all
    points of the patch (:func:`spread`), weighted by their place in it (:func:`centre_weights`), and averaged by
    point for each scale. Points that lie in no patch come with ``covered`` False.

    Args:
        tile: Prepared at all of the scales.
        scales: Names of scales, ``('50', '150')``.
        predict: The network.
        classes: Number of classes C.
        points: How many points of a patch the network sees, by scale.
        batch: Patches given to the network at once.
        wanted: Numbers of the patches by scale. Default: all.

    Attributes:
        order: (N,) rows of the tile by y: place ``p`` of a strip is row ``order[p]``.
        patches: Number of patches.
    """

    def __init__(self, tile: Tile, scales: Sequence[str], predict: PredictPatches, classes: int,
                 points: Mapping[str, int], batch: int = 2, wanted: Mapping[str, Sequence[int]] | None = None) -> None:
        self.tile, self.scales, self.predict, self.classes = tile, tuple(scales), predict, classes
        self.points, self.batch = dict(points), batch
        self.places = patch_places(tile, scales, wanted)
        self.patches = len(self.places)
        y = tile.array('xyz')[:, 1]
        self.order = np.argsort(y, kind='stable').astype(np.uint32)
        self._y = np.ascontiguousarray(y[self.order])
        self._rank = np.empty(len(y), np.uint32)
        self._rank[self.order] = np.arange(len(y), dtype=np.uint32)

    def __iter__(self) -> Iterator[Strip]:
        accumulator = StripAccumulator(len(self.scales), self.classes)
        predicted = self._predicted()
        for place, probabilities in progress(predicted, self.tile.name, total=self.patches, unit='patch'):
            below = self._below(place.box[1])
            if below > accumulator.first:
                yield from accumulator.take(below)
            self._add(accumulator, place, probabilities)
        yield from accumulator.take(len(self.order))

    def _predicted(self) -> Iterator[tuple[PatchPlace, np.ndarray]]:
        """Yield every patch with the answers at its head; a batch holds patches of one row and one scale."""
        for (_, scale), group in groupby(self.places, key=lambda place: (place.box[1], place.scale)):
            row, name = list(group), self.scales[scale]
            for first in range(0, len(row), self.batch):
                part = row[first:first + self.batch]
                patches = [self.tile.read_patch(name, place.number, self.points[name]) for place in part]
                yield from zip(part, self.predict(patches), strict=True)

    def _below(self, y: float) -> int:
        """Return how many points lie surely below y: the box may cut between two steps of the store's grid."""
        return int(np.searchsorted(self._y, np.floor((y - self.tile.origin[1]) / self.tile.quantum) - 1))

    def _add(self, accumulator: StripAccumulator, place: PatchPlace, probabilities: np.ndarray) -> None:
        tile, box = self.tile, np.array(place.box)
        rows = np.asarray(tile.patch_rows(self.scales[place.scale], place.number))
        centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, tile.origin[2]])
        local = (tile.array('xyz')[rows] * tile.quantum + (tile.origin - centre)).astype(np.float32)
        seen = len(probabilities)
        rest = spread(local[:seen], probabilities, local[seen:])
        weights = centre_weights(local[:, 0], local[:, 1], box - np.tile(centre[:2], 2))
        ranks = self._rank[rows]
        accumulator.add(place.scale, ranks[:seen], probabilities, weights[:seen])
        accumulator.add(place.scale, ranks[seen:], rest, weights[seen:])
