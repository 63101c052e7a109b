"""The score table of points: all of them, groups of points, and the same for real and synthetic tiles apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from projects.evaluation.score_table import Score, ScoreTable
from projects.lidar.metrics.point_scores import ALL, LARGE, SCORES, SMALL, Counts, Level, add_counts, group_scores


@dataclass(frozen=True)
class PointSample:
    """What one patch or tile contributes."""

    sample_id: str
    counts: Counts
    kind: str | None = None  # real or synthetic
    scale: str | None = None


def point_table(samples: Sequence[PointSample], level: Level, noun: str = 'patches') -> ScoreTable:
    """Return the table of samples, each given once: groups of points, scales, and each kind of tile.

    Group rows hold ``points`` and ``classes`` (scored points, classes in their truth) beside the scores.
    """
    samples = sorted(samples, key=lambda sample: sample.sample_id)
    rows = _rows(samples, level, '')
    scales = sorted({sample.scale for sample in samples if sample.scale}, key=lambda scale: (len(scale), scale))
    for scale in scales if len(scales) > 1 else ():
        rows += _rows([sample for sample in samples if sample.scale == scale], level, f'scale {scale}', whole=True)
    kinds = sorted({sample.kind for sample in samples if sample.kind})
    for kind in kinds if len(kinds) > 1 else ():
        rows += _rows([sample for sample in samples if sample.kind == kind], level, kind)
    images = [{'sample_id': sample.sample_id, 'kind': sample.kind, 'scale': sample.scale,
               'points': int(sample.counts.confusions()[ALL].sum()),
               **group_scores(sample.counts.confusions()[ALL], level)} for sample in samples]
    told = f' ({kinds[0]} {noun})' if len(kinds) == 1 else f' ({noun})'
    return ScoreTable('points', f'Points, {level.name} classes{told}',
                      tuple(Score(name, meaning) for name, meaning in SCORES.items()), rows, images, noun)


def _rows(samples: Iterable[PointSample], level: Level, prefix: str, whole: bool = False) -> list[dict[str, Any]]:
    samples = list(samples)
    rows = []
    for name, confusion in add_counts(sample.counts for sample in samples).items():
        if whole and name != ALL:
            continue
        buildings_only = name in (SMALL, LARGE)
        truth = confusion.sum(axis=1)
        scored = truth[list(level.building)] if buildings_only else truth
        label = (prefix or ALL) if name == ALL else f'{prefix}, {name}' if prefix else name
        rows.append({'group': label, 'images': len(samples), 'points': int(scored.sum()),
                     'classes': int(np.count_nonzero(scored)), **group_scores(confusion, level, buildings_only)})
    return rows
