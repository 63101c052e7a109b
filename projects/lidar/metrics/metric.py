"""The MMEngine metric of classified points: exact counts, once for each patch, in groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmseg.registry import METRICS

from projects.engine.errors import UserError
from projects.evaluation.metric import SegmentationMetric
from projects.evaluation.result import SampleResult
from projects.evaluation.score_table import ScoreTable
from projects.lidar.metrics.point_scores import (
    BORDERS,
    BUILDING_AREA,
    Counts,
    check_labels,
    coarse_table,
    count_points,
    level_of,
    point_groups,
    without_absent,
)
from projects.lidar.metrics.tables import PointSample, point_table

IN_GROUPS = ('mIoU', 'building_IoU')  # a log line is long enough; further ones are in the table


@dataclass
class PointResult(SampleResult):
    """A patch's result with its groups."""

    point_sample: PointSample | None = None


@METRICS.register_module()
class PointMetric(SegmentationMetric):
    """IoU, precision and recall of points at one level of classes, by groups of points.

    Everything is as of :class:`~projects.evaluation.metric.SegmentationMetric` (names, files, one count for each
    sample whichever rank scored it), but that means are taken over the classes that the truth of the split holds:
    points predicted as another class count as missed in their own, and such a class has no ``IoU/<class>``.
    :meth:`evaluate` adds ``mPrecision``, ``mRecall``, ``building_IoU`` and ``building_recall``, and ``<group>/mIoU``
    and ``<group>/building_IoU`` for the groups of :func:`~projects.lidar.metrics.tables.point_table`:
    ``small_buildings``, ``large_buildings``, ``border_0-2_m`` …, ``scale_50`` … where there are several, and ``real``,
    ``synthetic`` and their groups (``real/small_buildings/mIoU``) where there are both. ``score_table`` keeps all.

    A patch's points are scored where it is scored: a point in two patches counts twice. Whole tiles, each point once,
    are scored by tools/lidar/score.py.

    Args:
        level: 'lod3' (default) scores the points of which a leaf class is known, 'coarse' all that have a label, by the
            classes that ASPRS codes tell apart. There the prediction is the class of the largest sum of
            probabilities of its leaves, where a sample has ``seg_logits`` or ``seg_probs``.
        building_area: footprint in m² below which a building is small. Default 150.
        borders: distances in metres that part the groups by distance to the patch's edge. Default 2, 5 and 10.
        calibration: also measure the expected calibration error. Default True.
        prefix: prepended to every name as ``<prefix>/``. Default none at level 'lod3', 'coarse' at the other.

    Raises:
        UserError: an unknown level, a sample without truth or with other labels, borders that do not increase.
    """

    nouns = ('patches', 'points')

    def __init__(self, level: str = 'lod3', building_area: float = BUILDING_AREA, borders: Sequence[float] = BORDERS,
                 calibration: bool = True, prefix: str | None = None) -> None:
        self.level = level_of(level)
        super().__init__(calibration=calibration,
                         prefix='coarse' if prefix is None and level == 'coarse' else prefix)
        self.building_area, self.borders = building_area, tuple(borders)
        if list(self.borders) != sorted({*self.borders}) or not self.borders or self.borders[0] <= 0:
            raise UserError(f'PointMetric.borders: expected increasing distances above 0, found {borders}')
        self.score_table: ScoreTable | None = None

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """The data set's, with the classes of the level."""
        if self._dataset_meta is None:
            return None
        return {**self._dataset_meta, 'classes': self.level.classes,
                'palette': [list(colour) for colour in self.level.palette]}

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Mapping[str, Any]) -> None:
        self._dataset_meta = dict(dataset_meta)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch; keeps small arrays only."""
        for sample in data_samples:
            scored = {key: sample[key] for key in ('sample_id', 'img_path', 'seg_logits', 'seg_probs')
                      if sample.get(key) is not None}
            if 'gt_sem_seg' in sample:
                labels = sample['gt_sem_seg']['data'].reshape(-1).cpu().numpy().astype(np.int64)
                check_labels(labels, f'sample {sample.get("sample_id")}')
                truth = self.level.truth[labels]
                scored['gt_sem_seg'] = {'data': torch.from_numpy(truth)[None]}
            scored |= self._decide(sample)
            super().process(data_batch, [scored])  # refuses what is missing
            prediction = scored['pred_sem_seg']['data'].reshape(-1).cpu().numpy()
            result = self.results[-1]
            self.results[-1] = PointResult(
                **vars(result), point_sample=PointSample(
                    result.sample_id, self._count(sample, truth, prediction), sample.get('kind'),
                    sample.get('scale')))

    def _decide(self, sample: dict) -> dict[str, Any]:
        """Return the predicted classes of the level, and its probabilities where the sample has any."""
        prediction = sample['pred_sem_seg']['data'].reshape(1, -1)
        key = next((name for name in ('seg_probs', 'seg_logits') if name in sample), None)
        if self.level.name == 'lod3':
            return {'pred_sem_seg': {'data': prediction}}
        if key is None:
            return {'pred_sem_seg': {'data': torch.from_numpy(
                self.level.prediction[prediction.cpu().numpy().astype(np.int64)])}}
        leaves = sample[key]['data'].reshape(sample[key]['data'].shape[0], -1).float()
        leaves = leaves if key == 'seg_probs' else leaves.softmax(dim=0)
        coarse = torch.from_numpy(coarse_table()).to(leaves.device).T @ leaves  # (6, n)
        return {'pred_sem_seg': {'data': coarse.argmax(dim=0)[None]}, 'seg_probs': {'data': coarse[:, None]}}

    def _count(self, sample: dict, truth: np.ndarray, prediction: np.ndarray) -> Counts:
        groups = {key: None if sample.get(key) is None else sample[key].reshape(-1).float().cpu().numpy()
                  for key in ('building_area', 'border')}
        return count_points(truth, prediction, self.level, point_groups(
            groups['building_area'], groups['border'], self.building_area, self.borders))

    def compute_metrics(self, results: list[PointResult]) -> dict[str, float]:
        """Add up samples (each counted once already) and return the named scores."""
        if not results:
            raise UserError('PointMetric: no sample was scored')
        total = np.sum([result.confusion for result in results], axis=0)
        present = total.sum(axis=1) > 0
        strange = {self.level.classes[index]: int(total[:, index].sum()) for index in np.flatnonzero(~present)}
        parts = [without_absent(result.confusion, present) for result in results]
        metrics = super().compute_metrics([replace(result, confusion=confusion, missed=missed)
                                           for result, (confusion, missed) in zip(results, parts)])
        absent = {f'{score}/{name}' for score in ('IoU', 'F1') for name in strange}
        metrics = {name: value for name, value in metrics.items() if name not in absent}
        if any(strange.values()):
            print_log('points predicted as a class that the truth does not hold (missed in their own): ' + ', '.join(
                f'{name} {count:,}' for name, count in strange.items() if count), 'current')
        self.score_table = point_table([result.point_sample for result in results], self.level)
        for row in self.score_table.groups:
            first = row is self.score_table.groups[0]
            key = '' if first else row['group'].replace(', ', '/').replace(' ', '_') + '/'
            names = [score.name for score in self.score_table.scores] if first else IN_GROUPS
            metrics |= {key + name: row[name] for name in names}
        print_log('points by group:\n' + self.score_table.text(), 'current')
        return metrics
