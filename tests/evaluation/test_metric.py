"""SegmentationMetric: values, and equality between one process and two."""

import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample

from projects.engine.errors import UserError
from projects.evaluation.metric import SegmentationMetric

TRUTH = torch.tensor([[[0, 0, 0, 1], [1, 1, 2, 255]]])
PREDICTION = torch.tensor([[[0, 0, 1, 1], [1, 0, 1, 0]]])
CLASSES = ('a', 'b', 'c')


def data_sample(sample_id='one', truth=TRUTH, prediction=PREDICTION, logits=None, **meta):
    sample = SegDataSample(metainfo={'sample_id': sample_id, 'img_path': f'{sample_id}.png', **meta})
    sample.pred_sem_seg = PixelData(data=prediction)
    if truth is not None:
        sample.gt_sem_seg = PixelData(data=truth)
    if logits is not None:
        sample.seg_logits = PixelData(data=logits)
    return sample


def evaluate(samples, meta=None, size=None, **options):
    metric = SegmentationMetric(**options)
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = {'classes': CLASSES, **(meta or {})}
    evaluator.process(samples)
    return evaluator.evaluate(len(samples) if size is None else size), metric


def logits_of(prediction, height=10.0):
    return torch.zeros(3, *prediction.shape[1:]).scatter_(0, prediction.clamp(0, 2), height)


def test_values_by_hand():
    metrics, metric = evaluate([data_sample(logits=logits_of(PREDICTION))], {'background': 0})
    assert metrics['mIoU'] == pytest.approx(0.3)
    assert metrics['mIoU_foreground'] == pytest.approx(0.2)
    assert metrics['OA'] == 4 / 7
    assert metrics['mAcc'] == pytest.approx(4 / 9)
    assert metrics['IoU/a'] == 0.5 and metrics['IoU/b'] == 0.4 and metrics['IoU/c'] == 0
    assert metrics['F1/a'] == pytest.approx(2 / 3)
    confidence = math.exp(10) / (math.exp(10) + 2)
    assert metrics['ECE'] == pytest.approx(confidence - 4 / 7, abs=1e-6)  # the ignored pixel does not count
    assert metric.last.calibration.count.sum() == 7
    assert metric.last.confusion.dtype == np.int64
    assert list(metrics)[:6] == ['mIoU', 'mIoU_foreground', 'mF1', 'OA', 'mAcc', 'ECE']


def test_registered_and_options():
    metric = METRICS.build(dict(type='SegmentationMetric', background=1, calibration=False, prefix='night'))
    assert metric.background == 1
    metrics, _ = evaluate([data_sample(logits=logits_of(PREDICTION))], {'background': 0}, background=1,
                          calibration=False, prefix='night')
    assert metrics['night/mIoU_foreground'] == pytest.approx(0.25)  # a and c: the option wins over the metainfo
    assert 'night/ECE' not in metrics


def test_worst_and_best_samples():
    perfect = data_sample('perfect', prediction=TRUTH.clamp(max=2))
    empty = data_sample('empty', truth=torch.full_like(TRUTH, 255))
    _, metric = evaluate([perfect, data_sample('poor'), empty], calibration=False)
    assert [row['sample_id'] for row in metric.last.samples] == ['poor', 'perfect', 'empty']
    assert [row['sample_id'] for row in metric.last.worst(1)] == ['poor']
    assert [row['sample_id'] for row in metric.last.best(5)] == ['perfect', 'poor']
    assert metric.last.samples[0]['mIoU'] == pytest.approx(0.3)
    assert metric.last.samples[1]['mIoU'] == 1


def test_repeated_evaluation_starts_anew():
    metric = SegmentationMetric(calibration=False)
    metric.dataset_meta = {'classes': CLASSES}
    for _ in range(2):
        metric.process(None, [data_sample().to_dict()])
        metric.evaluate(1)
        assert metric.last.confusion.sum() == 7


def test_labels_of_merged_views_have_no_calibration():
    other = (PREDICTION + 1) % 3
    metrics, metric = evaluate([data_sample(logits=logits_of(other))])
    assert 'ECE' not in metrics and metric.last.calibration is None
    metrics, _ = evaluate([data_sample()])  # no logits at all
    assert 'ECE' not in metrics


def test_probabilities_are_not_softened_again():
    sample = data_sample(logits=logits_of(PREDICTION))
    sample.seg_probs = PixelData(data=logits_of(PREDICTION, 1.0))
    metrics, _ = evaluate([sample])
    assert metrics['ECE'] == pytest.approx(3 / 7)


def test_one_channel_has_been_through_its_sigmoid():
    probability = torch.full(TRUTH.shape, 0.9)
    sample = data_sample(truth=TRUTH.clamp(max=1), prediction=torch.ones_like(TRUTH), logits=probability)
    metrics, _ = evaluate([sample])
    assert metrics['OA'] == 5 / 8
    assert metrics['ECE'] == pytest.approx(0.9 - 5 / 8, abs=1e-6)


def test_two_dimensional_labels_are_accepted():
    sample = data_sample().to_dict()
    sample['pred_sem_seg'] = {'data': PREDICTION[0]}
    metrics, _ = evaluate([sample])
    assert metrics['OA'] == 4 / 7


@pytest.mark.parametrize(('sample', 'message'), [
    (data_sample(truth=TRUTH + 5), 'sample one: the truth holds labels outside 0..2'),
    (data_sample(prediction=PREDICTION + 2), 'sample one: the prediction holds labels outside 0..2'),
    (data_sample(truth=TRUTH[:, :1]), 'sample one: the prediction is 4x2, the truth 4x1'),
    (data_sample(truth=None), 'sample one: no truth'),
    (data_sample(logits=logits_of(PREDICTION, math.nan)), 'sample one: the network.s confidence is not finite'),
])
def test_bad_samples_are_named(sample, message):
    with pytest.raises(UserError, match=message):
        evaluate([sample])


def test_equal_ids_are_an_error_not_a_silent_loss():
    with pytest.raises(UserError, match="'one' is one that repeats"):
        evaluate([data_sample('two'), data_sample(), data_sample()])


def test_without_ids_it_says_which_key_is_missing():
    sample = data_sample().to_dict()
    del sample['sample_id'], sample['img_path']
    with pytest.raises(UserError, match='meta_keys'):
        evaluate([sample])


def numbered(index):
    """Each index has its own difficulty, and its own number of ignored rows."""
    generator = torch.Generator().manual_seed(index)
    truth = torch.randint(0, 3, (1, 9, 8), generator=generator)
    logits = torch.randn(3, 9, 8, generator=generator)
    logits.scatter_add_(0, truth, torch.full((1, 9, 8), 0.5 * index))
    truth[:, :index % 3] = 255
    return data_sample(f'tile_{index}', truth, logits.argmax(0, keepdim=True), logits)


def score_numbered(indices, length):
    metrics, metric = evaluate([numbered(index) for index in indices], {'background': 0}, length)
    return {'metrics': metrics, 'confusion': metric.last.confusion.tolist(), 'samples': metric.last.samples,
            'confidence': metric.last.calibration.confidence.tolist()}


def test_two_processes_equal_one(scored_by_two):
    confusion = scored_by_two(7)['confusion']
    assert np.sum(confusion) == sum(9 * 8 - 8 * (index % 3) for index in range(7))
