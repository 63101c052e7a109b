"""The MMEngine metric of wireframes: the field's measures, once for each sample."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmseg.registry import METRICS

from projects.engine.errors import UserError
from projects.evaluation.gathering import SampleMetric
from projects.evaluation.score_table import ScoreTable
from projects.roofline.metrics.image_scores import score_image
from projects.roofline.metrics.split_scores import LINE_BOUNDS, SampleScores, score_table
from projects.roofline.samples import sample_id_of, size_of, truth_of, wireframe_of
from projects.roofline.wireframe import LINE_SCORE


@METRICS.register_module()
class WireframeMetric(SampleMetric):
    """sAP, junction AP, heat-map AP and F, endpoint error, planar faces; over all images, and where of use in percent.

    :meth:`evaluate` returns

    ========================  ======================================================================================
    sAP1, sAP5, sAP10, sAP15  interpolated AP of lines ranked over all images; one is a hit when its two ends are
                              within a squared distance, summed, of 1, 5, 10, 15 of a true line's in the better
                              pairing, in cells of 1/128 of the image's longer side
    msAP                      mean of sAP5, sAP10 and sAP15
    unverified/sAP10          sAP10 of pairs ranked by their junctions alone, where the network gives these
    mAPJ                      mean of the AP of junctions within 0.5, 1 and 2 cells; where the network tells types of
                              junctions, only those of one type match
    APH, FH                   :mod:`~projects.roofline.metrics.heat_map`
    F10, F10_score            best F of the ranked lines, hits as of sAP10, and the lowest score of the lines that give
                              it: a threshold for tools/roofline/vectorize.py (choose it on validation images)
    precision, recall         of lines that score at least ``threshold``, hits as of sAP10
    endpoint_error_px         mean distance of their hits' ends from the true ones, in pixels of the image
    endpoint_error_m          the same in metres, over the images with a ``resolution``, where there are any
    face_F1                   :func:`~projects.roofline.metrics.faces.face_counts`; the true faces are the graph's,
                              those that its lines close where it has none; left out without any
    ========================  ======================================================================================

    A true line is matched once, by the best-scored line near it: duplicates are false. All lines of an image without
    true ones are false. Equal scores rank by sample id, then by place, so that the order of files does not matter.
    What cannot be measured is NaN. Samples that a distributed sampler repeats count once, so the scores equal those
    of one process, to the bit.

    ``score_table`` keeps groups (by the number of true lines) and single images of the last evaluation, on every
    rank; :class:`~projects.evaluation.hooks.SegmentationReportHook` writes it to ``wireframe.json`` and ``.csv``.

    Args:
        threshold: Score of a line that is taken to be one, 0..1. Default 0.9.
        heat_map: Also measure APH and FH, which takes longer than all the rest. Default True.
        line_bounds: Increasing numbers of true lines that a group of images ends at. Default 10 and 20.
        prefix: Prepended to every name as ``<prefix>/``. Default none.

    Raises:
        UserError: a threshold or bounds out of range; a sample without truth (``graph``), ``ori_shape`` or
            predictions; ids are not unique.
    """

    def __init__(self, threshold: float = LINE_SCORE, heat_map: bool = True, line_bounds: Sequence[int] = LINE_BOUNDS,
                 prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        if not 0 <= threshold <= 1:
            raise UserError(f'WireframeMetric.threshold: expected a score, 0 to 1, found {threshold}')
        self.line_bounds = tuple(line_bounds)
        if list(self.line_bounds) != sorted({*self.line_bounds}) or not self.line_bounds or self.line_bounds[0] < 1:
            raise UserError(f'WireframeMetric.line_bounds: expected increasing numbers above 0, found {line_bounds}')
        self.threshold, self.heat_map = threshold, heat_map
        self.score_table: ScoreTable | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score one batch; keeps hits and counts only."""
        for sample in data_samples:
            sample_id, truth = sample_id_of(sample), truth_of(sample)
            if truth is None:
                raise UserError(f'sample {sample_id}: graph: no truth to score against; take WireframeMetric out')
            resolution, img_path = sample.get('resolution'), sample.get('img_path')
            scores = score_image(
                wireframe_of(sample), truth, size_of(sample), threshold=self.threshold,
                unverified=wireframe_of(sample, unverified=True), heat_map=self.heat_map,
                resolution=None if resolution is None else float(resolution))
            self.results.append(SampleScores(sample_id, scores, None if img_path is None else str(img_path)))

    def compute_metrics(self, results: list[SampleScores]) -> dict[str, float]:
        """Return the named scores of samples, each given once."""
        if not results:
            raise UserError('WireframeMetric: no sample was scored')
        self.score_table = score_table(results, self.line_bounds)
        print_log('roof wireframes:\n' + self.score_table.text(), 'current')
        everything = self.score_table.groups[0]
        if math.isnan(everything['sAP10']):
            print_log(f'WireframeMetric: no true line in {len(results)} images: sAP is not defined', 'current',
                      logging.WARNING)
        return {score.name: everything[score.name] for score in self.score_table.scores}
