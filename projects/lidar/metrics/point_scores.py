"""What points are counted by, and the scores that are read off the counts. Numpy only.

A level says what classes are told apart: ``lod3`` scores points of which a leaf class is known, ``coarse`` all
that have a label, by what ASPRS codes know. Means are taken over the classes that the truth of a group holds: a class
that is nowhere cannot be found, and points called so are missed in their own class already.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from projects.engine.errors import UserError
from projects.lidar.classes import BUILDING, BUILDING_PARTS, COARSE, IGNORE, LABEL_TO_COARSE, LABELS, LOD3
from projects.lidar.palette import BUILDING_COLOUR, LOD3_PALETTE

BUILDING_AREA = 150.0  # m²: below, a building is small
BORDERS = (2.0, 5.0, 10.0)  # metres between the groups by distance to a patch's edge
ALL, SMALL, LARGE = 'all', 'small buildings', 'large buildings'
SCORES = {
    'mIoU': 'mean IoU over the classes that the truth holds; of buildings by size over their classes',
    'mPrecision': 'mean precision over the same classes; 0 for one that is never predicted',
    'mRecall': 'mean recall over the same classes',
    'OA': 'share of points that are right; of buildings by size among their own points',
    'building_IoU': 'IoU of all building parts as one class',
    'building_recall': 'share of building points that are predicted as some building part',
}


@dataclass(frozen=True)
class Level:
    """A set of classes.

    Args:
        classes: Names.
        building: Indices of the building's.
        truth: (256,) uint8 from label to class; :data:`IGNORE` is not scored.
        prediction: (30,) uint8 from predicted LOD3 class to class.
        palette: Colours of the classes.
    """

    name: str
    classes: tuple[str, ...]
    building: tuple[int, ...]
    truth: np.ndarray = field(repr=False)
    prediction: np.ndarray = field(repr=False)
    palette: tuple[tuple[int, int, int], ...] = field(repr=False)


def _leaves() -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    table[:len(LOD3)] = np.arange(len(LOD3))
    return table


_COARSE_PALETTE = (BUILDING_COLOUR, *(LOD3_PALETTE[LOD3.index(name)] for name in COARSE[1:]))
LEVELS = {
    'lod3': Level('lod3', LOD3, BUILDING_PARTS, _leaves(), np.arange(len(LOD3), dtype=np.uint8), LOD3_PALETTE),
    'coarse': Level('coarse', COARSE, (0,), LABEL_TO_COARSE, LABEL_TO_COARSE[:len(LOD3)], _COARSE_PALETTE),
}


def level_of(name: str) -> Level:
    """Return a level by its name.

    Raises:
        UserError: There is none.
    """
    if name not in LEVELS:
        raise UserError(f'level: expected one of {", ".join(LEVELS)}, found {name!r}')
    return LEVELS[name]


def check_labels(labels: np.ndarray, where: str) -> None:
    """Refuse values that are neither a label of projects/lidar/classes.py nor :data:`IGNORE`."""
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    strange = [int(value) for value in present if value >= len(LABELS) and value != IGNORE]
    if strange:
        raise UserError(f'{where}: expected labels 0 to {BUILDING} or {IGNORE}, found '
                        f'{", ".join(map(str, strange[:5]))}')


def point_groups(area: np.ndarray | None = None, border: np.ndarray | None = None,
                 building_area: float = BUILDING_AREA, borders: Sequence[float] = BORDERS) -> dict[str, np.ndarray]:
    """Return the groups of single points: name to ``(n,)`` bool.

    Args:
        area: ``(n,)`` m² of the building at or beside each point, 0 for none
            (:func:`~projects.lidar.metrics.building_groups.area_nearby`); None leaves the two groups out.
        border: ``(n,)`` metres to the edge of the patch; None leaves these groups out.
        building_area: m² below which a building is small.
        borders: Increasing distances that part the groups.
    """
    groups = {}
    if area is not None:
        groups[SMALL] = (area > 0) & (area < building_area)
        groups[LARGE] = area >= building_area
    if border is not None:
        edges = (0.0, *borders, math.inf)
        for (low, high), name in zip(zip(edges, edges[1:]), border_names(borders)):
            groups[name] = (border >= low) & (border < high)
    return groups


def border_names(borders: Sequence[float] = BORDERS) -> list[str]:
    """Return the names of the groups by distance to the edge of a patch."""
    edges = (0.0, *borders)
    return [f'border {low:g}-{high:g} m' for low, high in zip(edges, edges[1:])] + [f'border over {edges[-1]:g} m']


@dataclass(frozen=True)
class Counts:
    """Confusion matrices of several groups, as the cells that are not 0.

    Args:
        groups: Names; the first is :data:`ALL`.
        cells: (m,) int64 flat indices into (groups, C, C), rows = truth.
        numbers: (m,) int64 points.
        classes: C.
    """

    groups: tuple[str, ...]
    cells: np.ndarray
    numbers: np.ndarray
    classes: int

    def confusions(self) -> dict[str, np.ndarray]:
        """Return the matrix of each group, ``(C, C)`` int64."""
        dense = np.zeros(len(self.groups) * self.classes**2, np.int64)
        dense[self.cells] = self.numbers
        return dict(zip(self.groups, dense.reshape(len(self.groups), self.classes, self.classes)))


def count_points(truth: np.ndarray, prediction: np.ndarray, level: Level,
                 groups: Mapping[str, np.ndarray] | None = None) -> Counts:
    """Count points by (true class, predicted class) in all and in each group.

    Args:
        truth: ``(n,)`` classes of the level; :data:`IGNORE` is left out.
        prediction: ``(n,)`` classes of the level.
        level: Whose classes they are.
        groups: As of :func:`point_groups`.
    """
    number = len(level.classes)
    kept = truth != IGNORE
    cells = truth[kept].astype(np.int64) * number + prediction[kept]
    matrices = [np.bincount(cells, minlength=number**2)]
    matrices += [np.bincount(cells[mask[kept]], minlength=number**2) for mask in (groups or {}).values()]
    dense = np.concatenate(matrices)
    filled = np.flatnonzero(dense)
    return Counts((ALL, *(groups or {})), filled, dense[filled], number)


def add_counts(counts: Iterable[Counts]) -> dict[str, np.ndarray]:
    """Return the sum of each group's matrices over samples, groups in the order in which they first occur."""
    total: dict[str, np.ndarray] = {}
    for one in counts:
        for name, matrix in one.confusions().items():
            total[name] = total[name] + matrix if name in total else matrix
    return total


def group_scores(confusion: np.ndarray, level: Level, buildings_only: bool = False) -> dict[str, float]:
    """Return :data:`SCORES` of one group's matrix, fractions 0..1, NaN where nothing is there to score.

    Args:
        confusion: ``(C, C)`` int64, rows = truth.
        level: Whose classes they are.
        buildings_only: Means and the share of right points over building classes alone: a group by size of building.
    """
    hits, truth, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    building = np.zeros(len(level.classes), bool)
    building[list(level.building)] = True
    counted = (truth > 0) & (building if buildings_only else True)
    own_truth = int(truth[building].sum())
    own_hits = int(confusion[np.ix_(building, building)].sum())
    own_union = own_truth + int(predicted[building].sum()) - own_hits
    scored = truth[building].sum() if buildings_only else truth.sum()
    right = hits[building].sum() if buildings_only else hits.sum()
    return {
        'mIoU': _mean(hits / np.maximum(truth + predicted - hits, 1), counted),
        'mPrecision': _mean(hits / np.maximum(predicted, 1), counted),
        'mRecall': _mean(hits / np.maximum(truth, 1), counted),
        'OA': float(right / scored) if scored else math.nan,
        'building_IoU': own_hits / own_union if own_union else math.nan,
        'building_recall': own_hits / own_truth if own_truth else math.nan,
    }


def coarse_table() -> np.ndarray:
    """Return which coarse class each LOD3 class belongs to, ``(30, 6)`` float32 of 0 and 1.

    ``probabilities @ coarse_table()`` sums leaves: the walls and roofs of a point known to be building may share its
    probability so evenly that the largest leaf is another class's.
    """
    return np.eye(len(COARSE), dtype=np.float32)[LABEL_TO_COARSE[:len(LOD3)]]


def without_absent(confusion: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix without the columns of absent classes, and what was in them.

    The second, ``(C,)`` int64 by true class, are points that count as missed: so an
    :class:`~projects.evaluation.result.Evaluation` leaves those classes out of its means, as :func:`group_scores` does.

    Args:
        confusion: ``(C, C)`` int64, rows = truth.
        present: ``(C,)`` bool, the classes that the truth of the whole split holds.
    """
    return np.where(present[None], confusion, 0), confusion[:, ~present].sum(axis=1)


def _mean(values: np.ndarray, counted: np.ndarray) -> float:
    return float(values[counted].mean()) if counted.any() else math.nan
