"""One evaluation of one split: what was counted, and the scores it gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from projects.evaluation.calibration import Calibration
from projects.evaluation.confusion import Scores, scores
from projects.evaluation.tables import percent, text_table


@dataclass
class SampleResult:
    """What one sample (image) contributes."""

    sample_id: str
    confusion: np.ndarray  # (C, C) int64
    calibration: Calibration | None = None
    img_path: str | None = None
    missed: np.ndarray | None = None  # (C,) int64 labelled pixels without a prediction that count as wrong


@dataclass
class Evaluation:
    """The counts of a whole split and everything read off them.

    Build it with :meth:`from_samples`; all sums are taken in the order of the sample ids, so that the same samples
    give the same bits whichever process counted them.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray  # (C, C) int64, row = truth
    samples: list[dict[str, Any]]  # sample_id, mIoU, OA, pixels, img_path; worst mIoU first
    calibration: Calibration | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    background: int | None = None
    ignore_index: int | None = 255
    missed: np.ndarray | None = None  # (C,) int64, as of SampleResult; None where there is none
    nouns: tuple[str, str] = ('images', 'pixels')  # what samples are, and what is counted in them

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[SampleResult],
        classes: Sequence[str],
        *,
        palette: Sequence[Sequence[int]] | None = None,
        background: int | None = None,
        ignore_index: int | None = 255,
        nouns: tuple[str, str] = ('images', 'pixels'),
    ) -> 'Evaluation':
        """Add up samples. Calibration is kept only when every sample has it."""
        samples = sorted(samples, key=lambda sample: sample.sample_id)
        number = len(classes)
        confusion, missed = np.zeros((number, number), np.int64), np.zeros(number, np.int64)
        calibration = Calibration()
        rows = []
        for sample in samples:
            confusion += sample.confusion
            if sample.missed is not None:
                missed += sample.missed
            if calibration is not None:
                calibration = calibration + sample.calibration if sample.calibration is not None else None
            own = scores(sample.confusion, classes, background, sample.missed)
            rows.append({
                'sample_id': sample.sample_id, 'mIoU': own.mean_iou, 'OA': own.overall_accuracy,
                'pixels': int(own.truth_pixels.sum()), 'img_path': sample.img_path,
            })
        rows.sort(key=lambda row: (math.isnan(row['mIoU']), row['mIoU'], row['sample_id']))  # unscored ones last
        return cls(
            classes=tuple(classes), confusion=confusion, samples=rows,
            calibration=calibration if samples else None,
            palette=tuple(tuple(int(v) for v in colour) for colour in palette) if palette is not None else None,
            background=background, ignore_index=ignore_index, missed=missed if missed.any() else None, nouns=nouns,
        )

    @property
    def scores(self) -> Scores:
        """All scores of the summed confusion matrix and the missed pixels."""
        return scores(self.confusion, self.classes, self.background, self.missed)

    @property
    def pixels(self) -> int:
        """Number of labelled pixels that count."""
        return int(self.confusion.sum()) + (int(self.missed.sum()) if self.missed is not None else 0)

    def summary(self) -> dict[str, float]:
        """Return the scalar scores (fractions 0..1), with ``ECE`` where confidences were seen."""
        summary = self.scores.summary()
        if self.calibration is not None:
            summary['ECE'] = self.calibration.error
        return summary

    def worst(self, k: int) -> list[dict[str, Any]]:
        """Return the k samples of lowest mIoU, worst first; samples without a labelled pixel are left out."""
        return [row for row in self.samples if not math.isnan(row['mIoU'])][:k]

    def best(self, k: int) -> list[dict[str, Any]]:
        """Return the k samples of highest mIoU, best first."""
        return [row for row in self.samples if not math.isnan(row['mIoU'])][::-1][:k]

    def text(self) -> str:
        """Return the per-class table and the summary as plain text for a log or a terminal."""
        rows = [
            [row['class'], *(percent(row[name], 2, '') for name in ('IoU', 'F1', 'precision', 'recall')),
             f"{row['truth_pixels']:,}"]
            for row in self.scores.per_class()
        ]
        table = text_table(['class', 'IoU %', 'F1 %', 'precision %', 'recall %', self.nouns[1]], rows)
        line = '  '.join(f'{name} {percent(value, 2, "")}' for name, value in self.summary().items())
        return f'{table}\n{line}'

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the samples as plain values for JSON."""
        return {
            'scores': self.summary(),
            'per_class': self.scores.per_class(),
            'classes': list(self.classes),
            'palette': [list(colour) for colour in self.palette] if self.palette is not None else None,
            'background': self.background,
            'ignore_index': self.ignore_index,
            'nouns': list(self.nouns),
            'samples': len(self.samples),
            'pixels': self.pixels,
            'confusion': self.confusion.tolist(),
            'missed': self.missed.tolist() if self.missed is not None else None,
            'calibration': self.calibration.to_dict() if self.calibration is not None else None,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], samples: Sequence[dict[str, Any]] = ()) -> 'Evaluation':
        """Rebuild what :meth:`to_dict` gave, with the rows of ``samples.json``."""
        palette = value.get('palette')
        calibration, missed = value.get('calibration'), value.get('missed')
        return cls(
            classes=tuple(value['classes']), confusion=np.array(value['confusion'], np.int64), samples=list(samples),
            calibration=Calibration.from_dict(calibration) if calibration else None,
            palette=tuple(tuple(colour) for colour in palette) if palette else None,
            background=value.get('background'), ignore_index=value.get('ignore_index'),
            missed=np.array(missed, np.int64) if missed else None,
            nouns=tuple(value.get('nouns') or cls.nouns),
        )
