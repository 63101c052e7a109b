"""The MMEngine metric of camouflaged object detection: the field's measures, once for each sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmseg.registry import METRICS

from projects.camouflage.maps import grey_map, name_of
from projects.camouflage.metrics.evaluation import SIZE_BOUNDS, SIZES, SampleScores, score_table
from projects.camouflage.metrics.scores import SCORES, score_image
from projects.engine.errors import UserError
from projects.evaluation.gathering import SampleMetric
from projects.evaluation.score_table import ScoreTable


@METRICS.register_module()
class CamouflageMetric(SampleMetric):
    """S, weighted F, MAE, E, F and IoU of 8-bit maps at the size of the truth, averaged over images.

    :meth:`evaluate` returns the names of :func:`~projects.camouflage.metrics.camouflage_scores` as they are for all
    images, as ``<data set>/<name>`` where there are several data sets (a sample's ``dataset``), and as
    ``small/<name>``, ``medium/<name>`` and ``large/<name>`` by the object's share of the image. All are 0..1;
    ``MAE`` is better when smaller. The probabilities are rounded to 8 bits first, so that the scores are those of
    the maps that :class:`~projects.camouflage.map_writer.CamouflageMapWriterHook` writes.

    ``score_table`` keeps groups and single images of the last evaluation, on every rank;
    :class:`~projects.evaluation.hooks.SegmentationReportHook` writes it to ``camouflage.json`` and ``.csv``. Samples
    that a distributed sampler repeats count once, so the scores equal those of one process, to the bit. Stands
    beside :class:`~projects.evaluation.metric.SegmentationMetric` in one evaluator.

    Args:
        size_bounds: largest share of the image of a small and of a medium object. Default 0.01 and 0.1.
        prefix: prepended to every name as ``<prefix>/``. Default none.

    Raises:
        UserError: the bounds are no increasing shares; a sample has no truth, a truth with other labels than 0 and 1
            (there is no ignored pixel: the field's measures know none), or no probabilities; ids are not unique.
    """

    def __init__(self, size_bounds: Sequence[float] = SIZE_BOUNDS, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.size_bounds = tuple(size_bounds)
        if len(self.size_bounds) != 2 or not 0 < self.size_bounds[0] < self.size_bounds[1] < 1:
            raise UserError('CamouflageMetric.size_bounds: expected two increasing shares between 0 and 1, found '
                            f'{size_bounds}')
        self.score_table: ScoreTable | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score one batch; keeps numbers and curves only."""
        for sample in data_samples:
            sample_id = name_of(sample)
            dataset, img_path = sample.get('dataset'), sample.get('img_path')
            self.results.append(SampleScores(
                sample_id, None if dataset is None else str(dataset),
                score_image(grey_map(sample), _truth(sample, sample_id)), None if img_path is None else str(img_path)))

    def compute_metrics(self, results: list[SampleScores]) -> dict[str, float]:
        """Return the named scores of samples, each given once."""
        if not results:
            raise UserError('CamouflageMetric: no sample was scored')
        taken = {sample.dataset for sample in results} & {'all', *SIZES}
        if taken:
            raise UserError(f'CamouflageMetric: a data set is called {sorted(taken)[0]!r}, as a group of images is; '
                            'give it another name')
        self.score_table = score_table(results, self.size_bounds)
        first, *groups = self.score_table.groups
        metrics = {name: first[name] for name in SCORES}
        metrics |= {f'{row["group"]}/{name}': row[name] for row in groups for name in SCORES}
        print_log('camouflaged objects:\n' + self.score_table.text(), 'current')
        return metrics


def _truth(sample: dict, sample_id: str) -> np.ndarray:
    """Return the truth as a mask of 0 and 255, ``(H, W)`` uint8."""
    if 'gt_sem_seg' not in sample:
        raise UserError(f'sample {sample_id}: no truth to score against (gt_sem_seg); '
                        'load masks in the test pipeline or take CamouflageMetric out')
    labels = sample['gt_sem_seg']['data']
    labels = labels.reshape(labels.shape[-2:])
    if bool(((labels != 0) & (labels != 1)).any()):
        found = labels.unique().tolist()
        raise UserError(f'sample {sample_id}: expected labels 0 and 1, found '
                        f'{", ".join(str(label) for label in found[:5])}{", …" if len(found) > 5 else ""}')
    return (labels == 1).cpu().numpy().astype(np.uint8) * np.uint8(255)
