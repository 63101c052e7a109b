"""What is said of every point of a tile: class, confidence, entropy and disagreement, merged over the scales."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from projects.lidar.classes import BUILDING_PARTS
from projects.lidar.decision import decide
from projects.lidar.prediction.gate import Gate, gate_features
from projects.lidar.prediction.merging import merge_scales
from projects.lidar.prediction.streaming import TileStream
from projects.lidar.prediction.strips import Strip
from projects.lidar.prediction.uncertainty import disagreement, relative_entropy
from projects.lidar.prediction.unreached import nearest_reached
from projects.lidar.preparation.footprints import footprint_areas
from projects.lidar.store import Tile

STEPS = 1024  # of a value 0..1: the float's last bits are 0, which halves a compressed file


class PointAnswers:
    """One answer a point, by row of the tile.

    Attributes:
        classes: (N,) uint8, see :func:`projects.lidar.decision.decide`.
        confidence: (N,) float32, its probability.
        entropy: (N,) float32, 0..1, in units of log C.
        disagreement: (N,) float32, 0..1, between the scales, however they are merged; 0 with one scale. See
            :func:`projects.lidar.prediction.uncertainty.disagreement`.
        reached: (N,) bool: lies in a patch.
    """

    def __init__(self, count: int) -> None:
        self.classes = np.zeros(count, np.uint8)
        self.confidence, self.entropy, self.disagreement = (np.zeros(count, np.float32) for _ in range(3))
        self.reached = np.zeros(count, bool)

    def put(self, rows: np.ndarray, strip: Strip, weights: np.ndarray | None = None) -> None:
        """Take over the answers of a strip, whose points are these rows; ``weights`` (S, n) of a gate."""
        merged = merge_scales(strip.probabilities, strip.covered, weights)
        classes = decide(merged)
        self.classes[rows] = classes
        self.confidence[rows] = _stepped(np.take_along_axis(merged, classes[:, None], 1)[:, 0])
        self.entropy[rows] = _stepped(relative_entropy(merged))
        self.disagreement[rows] = _stepped(disagreement(strip.probabilities, strip.covered))
        self.reached[rows] = strip.covered.any(axis=0)

    def fill(self, tile: Tile, order: np.ndarray) -> int:
        """Give the points in no patch the answer of the nearest point that has one; return how many they are."""
        missing, nearest = nearest_reached(tile.array('xyz'), tile.quantum, order, self.reached)
        for values in (self.classes, self.confidence, self.entropy, self.disagreement):
            values[missing] = values[nearest]
        return len(missing)


def mean_answers(stream: TileStream) -> PointAnswers:
    """Average the scales."""
    answers = PointAnswers(stream.tile.points)
    for strip in stream:
        answers.put(stream.order[strip.start:strip.stop], strip)
    return answers


def gated_answers(stream: TileStream, gate: Gate, folder: Path) -> PointAnswers:
    """Weigh the scales by a gate.

    It looks at the size of the building that a point belongs to, by the average of the scales, and that is known when
    the whole tile is. So the scales' answers wait in a temporary file below ``folder``: 2 bytes a class, scale and
    point.
    """
    spool = StripSpool(folder / 'answers', len(stream.scales), stream.classes)
    building = np.zeros(stream.tile.points, bool)
    try:
        for strip in stream:
            merged = merge_scales(strip.probabilities, strip.covered)
            here = np.isin(decide(merged), BUILDING_PARTS) & strip.covered.any(axis=0)
            building[stream.order[strip.start:strip.stop]] = here
            spool.write(strip)
        features = tile_gate_features(stream.tile, stream.scales[0], building)
        answers = PointAnswers(stream.tile.points)
        for strip in spool.read():
            rows = stream.order[strip.start:strip.stop]
            answers.put(rows, strip, gate(features(rows)))
    finally:
        spool.remove()
    return answers


def tile_gate_features(tile: Tile, scale: str, building: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the features of a gate by rows.

    Args:
        tile: Prepared at the scale.
        scale: Whose density is looked at: the first of those predicted.
        building: (N,) bool: said to be building by the average of the scales.
    """
    rows = np.flatnonzero(building)
    xyz = tile.array('xyz')
    sides = np.maximum(np.ptp(xyz[:, :2], axis=0) * tile.quantum, 1.0)
    area = np.zeros(len(xyz), np.float32)
    area[rows] = footprint_areas(tile.positions(rows)[:, :2], len(xyz) / float(sides.prod()))
    log_density, height = tile.array(f'{scale}/log_density'), tile.array('height')
    return lambda chosen: gate_features(area[chosen], log_density[chosen], height[chosen])


class StripSpool:
    """Strips in a temporary file, to be read once more in the order they came."""

    def __init__(self, path: Path, scales: int, classes: int) -> None:
        self.path, self.scales, self.classes = path, scales, classes
        self._sizes: list[tuple[int, int]] = []
        path.unlink(missing_ok=True)

    def write(self, strip: Strip) -> None:
        """Append a strip."""
        with open(self.path, 'ab') as file:
            strip.covered.tofile(file)
            strip.probabilities.astype(np.float16).tofile(file)
        self._sizes.append((strip.start, strip.stop))

    def read(self) -> Iterator[Strip]:
        """Yield the strips."""
        if not self._sizes:
            return
        with open(self.path, 'rb') as file:
            for start, stop in self._sizes:
                shape = (self.scales, stop - start)
                covered = np.fromfile(file, bool, shape[0] * shape[1]).reshape(shape)
                flat = np.fromfile(file, np.float16, covered.size * self.classes)
                yield Strip(start, stop, flat.reshape(*shape, self.classes).astype(np.float32), covered)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _stepped(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 1) * STEPS) / np.float32(STEPS)
