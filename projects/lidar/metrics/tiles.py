"""Scores of whole classified tiles, each point once: what tools/lidar/classify.py wrote against what the tile holds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from projects.engine.errors import UserError
from projects.engine.progress import progress
from projects.evaluation.result import Evaluation, SampleResult
from projects.evaluation.score_table import ScoreTable
from projects.geo.point_clouds import PointHeader, read_header, read_points
from projects.lidar.classes import BUILDING, BUILDING_PARTS, IGNORE, LOD3, labels_of_codes
from projects.lidar.metrics.building_groups import area_nearby
from projects.lidar.metrics.point_scores import (
    ALL,
    BUILDING_AREA,
    LEVELS,
    Level,
    check_labels,
    count_points,
    point_groups,
    without_absent,
)
from projects.lidar.metrics.tables import PointSample, point_table
from projects.lidar.preparation.footprints import footprint_areas

PREDICTION, TRUTH = 'terrace_class', 'lod3'
TOLERANCE = 0.0051  # metres: half a step of coarsely written coordinates, and a little


def score_tiles(predictions: Sequence[str | Path], truth_dir: str | Path | None = None,
                building_area: float = BUILDING_AREA, margin: float = 2.0,
                unknown: str = 'refuse') -> dict[str, tuple[ScoreTable, Evaluation]]:
    """Score classified tiles at every level of which their truth knows a point.

    The truth is the dimension ``lod3`` where there is one (0 to 29, 255 unknown), else the ASPRS classification.
    Buildings are those of the truth; one that a tile's edge cuts counts with the part in the tile.

    Args:
        predictions: LAS or LAZ files with the dimension ``terrace_class``.
        truth_dir: Folder of files of the same names and points; default: the predictions hold the truth too.
        building_area: m² below which a building is small.
        margin: As of :func:`~projects.lidar.metrics.building_groups.area_nearby`.
        unknown: What happens to ASPRS codes that no mapping knows, as of `labels_of_codes`.

    Returns:
        For each level: the table of groups and the evaluation with its per-class scores.

    Raises:
        UserError: no files, two of one name, no such dimension, other points in the truth, no labelled point.
    """
    paths = [Path(path) for path in predictions]
    stems = [path.stem for path in paths]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if not paths or twice:
        raise UserError(f'score: expected classified tiles of different names, found {sorted(twice) or "none"}')
    found: dict[str, list[PointSample]] = {name: [] for name in LEVELS}
    for path in progress(paths, 'score', unit='tile'):
        labels, classes, area, kind = _read(path, truth_dir, margin, unknown)
        groups = point_groups(area, building_area=building_area)
        for name, level in LEVELS.items():
            counts = count_points(level.truth[labels], level.prediction[classes], level, groups)
            found[name].append(PointSample(path.stem, counts, kind))
    scored = {name: (point_table(samples, LEVELS[name], 'tiles'), _evaluation(samples, LEVELS[name]))
              for name, samples in found.items() if any(len(sample.counts.cells) for sample in samples)}
    if not scored:
        raise UserError(f'{paths[0]}: expected points with a label, found none (nor in the {len(paths) - 1} others)')
    return scored


def _read(path: Path, truth_dir: str | Path | None, margin: float,
          unknown: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Return labels, predicted classes and areas nearby, (n,) each, and the kind of the truth."""
    header = read_header(path)
    if PREDICTION not in header.dimensions:
        raise UserError(f'{path}: expected the dimension {PREDICTION}, found none; tools/lidar/classify.py writes it')
    source = path if truth_dir is None else Path(truth_dir) / path.name
    if not source.is_file():
        others = sorted(source.parent.glob(f'{path.stem}.la[sz]'))
        source = others[0] if others else source
    true_header = read_header(source)
    name = _truth_dimension(true_header)
    predicted = read_points(path, [PREDICTION, *([name] if source == path else [])])
    true = predicted if source == path else read_points(source, [name])
    if len(true) != len(predicted) or np.abs(true.xyz - predicted.xyz).max() > TOLERANCE:
        raise UserError(f'{source}: expected the points of {path} ({len(predicted):,}) in their order, found '
                        f'{len(true):,} points or others')
    classes = predicted.fields[PREDICTION]
    if classes.max() >= len(LOD3):
        raise UserError(f'{path}: {PREDICTION}: expected 0 to {len(LOD3) - 1}, found {classes.max()}')
    if name == TRUTH:
        labels = true.fields[name]
        check_labels(labels, f'{source}: {TRUTH}')
    else:
        labels = labels_of_codes(true.fields[name], str(source), unknown=unknown)
    xy = true.xyz[:, :2] - np.floor(true.xyz[:, :2].min(axis=0))
    building = np.isin(labels, (*BUILDING_PARTS, BUILDING))
    area = np.zeros(len(labels), np.float32)
    area[building] = footprint_areas(xy[building], len(xy) / max(float(np.prod(np.ptp(xy, axis=0))), 1.0))
    return labels, classes, area_nearby(xy, area, margin), 'synthetic' if name == TRUTH else 'real'


def _truth_dimension(header: PointHeader) -> str:
    return TRUTH if TRUTH in header.dimensions else 'classification'


def _evaluation(samples: Sequence[PointSample], level: Level) -> Evaluation:
    matrices = [sample.counts.confusions()[ALL] for sample in samples]
    present = np.sum(matrices, axis=0).sum(axis=1) > 0
    results = []
    for sample, matrix in zip(samples, matrices):
        confusion, missed = without_absent(matrix, present)
        results.append(SampleResult(sample.sample_id, confusion, missed=missed))
    return Evaluation.from_samples(results, level.classes, palette=level.palette, ignore_index=IGNORE,
                                   nouns=('tiles', 'points'))


def tiles_in(places: Sequence[str | Path]) -> list[Path]:
    """Return files as they are, and of folders their LAS and LAZ files in the order of their names."""
    found: list[Path] = []
    for place in map(Path, places):
        inside = sorted(path for path in place.iterdir() if path.suffix.lower() in ('.las', '.laz')) \
            if place.is_dir() else [place]
        if not inside:
            raise UserError(f'{place}: expected LAS or LAZ files, found none')
        found += inside
    return found
