"""The MMEngine metric of every segmentation task: exact counts, once for each sample."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.registry import METRICS

from projects.engine.errors import UserError
from projects.evaluation.calibration import Calibration, confidence_of
from projects.evaluation.confusion import confusion_torch
from projects.evaluation.gathering import SampleMetric
from projects.evaluation.result import Evaluation, SampleResult


@METRICS.register_module()
class SegmentationMetric(SampleMetric):
    """IoU, F1, accuracy and calibration from an int64 confusion matrix.

    Every score is a fraction 0..1 (mmseg's own metric gives percent), so ``save_best='mIoU'`` works as it is.
    :meth:`evaluate` returns ``mIoU``, ``mIoU_foreground``, ``mF1``, ``OA``, ``mAcc``, ``ECE`` and, for each class,
    ``IoU/<class>`` and ``F1/<class>`` (NaN for a class in neither truth nor prediction, see
    :class:`~projects.evaluation.confusion.Scores`). ``last`` keeps the whole
    :class:`~projects.evaluation.result.Evaluation`, on every rank.

    Distributed samplers repeat samples so that all ranks have equally many. Results are kept per sample and counted
    once for each ``sample_id``, so the scores equal those of one process on the same predictions, to the bit.

    Calibration reads ``seg_probs`` (probabilities) where a data sample has them, else ``seg_logits``. When the
    predicted labels are not the arg max of those (merged test-time views), it is left out with a warning, because
    the confidences would belong to another prediction.

    Args:
        ignore_index: truth label that is left out. Default 255.
        background: class index that ``mIoU_foreground`` leaves out; ``None`` takes ``dataset_meta['background']``,
            and without that all classes count.
        calibration: also measure the expected calibration error. Default True.
        prefix: prepended to every name as ``<prefix>/``. Default none.

    Raises:
        UserError: a label is outside the classes, a truth has another size than its prediction, or sample ids are
            not unique; names the sample.
    """

    nouns = ('images', 'pixels')  # of logs, pictures and reports: what samples are, what is counted in them

    def __init__(
        self,
        ignore_index: int | None = 255,
        background: int | None = None,
        calibration: bool = True,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.ignore_index = ignore_index
        self.background = background
        self.calibration = calibration
        self.last: Evaluation | None = None
        self._told: set[str] = set()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch; keeps small arrays only."""
        classes = self._meta('classes')
        for sample in data_samples:
            sample_id = sample['sample_id'] if sample.get('sample_id') is not None else sample.get('img_path')
            if sample_id is None:
                raise UserError('SegmentationMetric: a sample has neither sample_id nor img_path; '
                                "add 'sample_id' to meta_keys of PackSegInputs")
            sample_id = str(sample_id)
            if 'gt_sem_seg' not in sample:
                raise UserError(f'sample {sample_id}: no truth to score against (gt_sem_seg); '
                                'load masks in the test pipeline or take SegmentationMetric out')
            prediction = _plane(sample['pred_sem_seg']['data'])
            truth = _plane(sample['gt_sem_seg']['data']).to(prediction.device)
            confusion = confusion_torch(
                truth, prediction, len(classes), self.ignore_index, f'sample {sample_id}')
            img_path = sample.get('img_path')
            self.results.append(SampleResult(
                sample_id=sample_id,
                confusion=confusion.cpu().numpy(),
                calibration=self._calibrate(sample, sample_id, truth, prediction) if self.calibration else None,
                img_path=None if img_path is None else str(img_path),
            ))

    def compute_metrics(self, results: list[SampleResult]) -> dict[str, float]:
        """Add up samples (each counted once already) and return the named scores."""
        meta = self.dataset_meta or {}
        self.last = Evaluation.from_samples(
            results, self._meta('classes'), palette=meta.get('palette'),
            background=self.background if self.background is not None else meta.get('background'),
            ignore_index=self.ignore_index, nouns=self.nouns,
        )
        metrics = self.last.summary()
        for row in self.last.scores.per_class():
            metrics[f"IoU/{row['class']}"] = row['IoU']
            metrics[f"F1/{row['class']}"] = row['F1']
        print_log('scores per class:\n' + self.last.text(), 'current')
        return metrics

    def _meta(self, key: str) -> Any:
        if not self.dataset_meta or key not in self.dataset_meta:
            raise UserError(f"SegmentationMetric: the dataset's metainfo has no {key!r}")
        return self.dataset_meta[key]

    def _calibrate(
        self, sample: dict, sample_id: str, truth: torch.Tensor, prediction: torch.Tensor
    ) -> Calibration | None:
        key = next((name for name in ('seg_probs', 'seg_logits') if name in sample), None)
        if key is None:
            self._tell_once('the predictions carry neither seg_probs nor seg_logits: no calibration error')
            return None
        class_scores = sample[key]['data']
        truth, prediction = truth.to(class_scores.device), prediction.to(class_scores.device)
        keep = torch.ones_like(truth, dtype=torch.bool) if self.ignore_index is None else truth != self.ignore_index
        if class_scores.shape[1:] != prediction.shape:
            self._tell_once(f'{key} is {tuple(class_scores.shape)} but the labels are {tuple(prediction.shape)}: '
                            'no calibration error')
            return None
        if class_scores.shape[0] > 1:
            labels = prediction[None].long().clamp(0, class_scores.shape[0] - 1)  # ignored pixels may hold anything
            picked = class_scores.gather(0, labels)[0]
            unlike = (picked < class_scores.amax(dim=0)) & keep
            if int(unlike.sum()) > 0.001 * max(int(keep.sum()), 1):
                self._tell_once(f'the predicted labels are not the arg max of {key} (merged views?): '
                                'no calibration error')
                return None
        # mmseg has put a single channel through its sigmoid already, whatever it calls it.
        confidence = confidence_of(class_scores, are_probabilities=key == 'seg_probs' or len(class_scores) == 1)
        calibration = Calibration()
        try:
            calibration.add(confidence[keep].cpu().numpy(), (prediction == truth)[keep].cpu().numpy())
        except UserError as error:
            raise UserError(f'sample {sample_id}: {error}') from error
        return calibration

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            print_log(f'SegmentationMetric: {message}', 'current', logging.WARNING)


def _plane(labels: torch.Tensor) -> torch.Tensor:
    """Return the labels as ``(H, W)``; models give ``(1, H, W)``, merged views sometimes ``(H, W)``."""
    return labels.reshape(labels.shape[-2:])
