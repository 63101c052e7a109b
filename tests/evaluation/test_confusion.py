"""Confusion matrices and scores against values worked out by hand and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from projects.engine.errors import UserError
from projects.evaluation import confusion as module
from projects.evaluation.confusion import confusion_numpy, confusion_torch, scores

TRUTH = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1], [1, 0, 1, 7]], np.uint8)  # 7 lies where the truth is ignored
BY_HAND = [[2, 1, 0], [1, 2, 0], [0, 1, 0]]


def both(truth, prediction, *args, **options):
    first = confusion_numpy(truth, prediction, *args, **options)
    second = confusion_torch(torch.from_numpy(truth), torch.from_numpy(prediction), *args, **options)
    assert first.dtype == np.int64 and second.dtype == torch.int64
    assert (first == second.numpy()).all()
    return first


def test_counts_by_hand():
    assert both(TRUTH, PREDICTION, 3).tolist() == BY_HAND


def test_every_score_by_hand():
    result = scores(np.array(BY_HAND), ['a', 'b', 'c'], background=0)
    assert result.iou.tolist() == [2 / 4, 2 / 5, 0]
    assert result.precision.tolist()[:2] == [2 / 3, 2 / 4]
    assert math.isnan(result.precision[2])  # c is never predicted
    assert result.recall.tolist() == [2 / 3, 2 / 3, 0]
    assert result.f1.tolist() == [4 / 6, 4 / 7, 0]
    assert result.mean_iou == pytest.approx((0.5 + 0.4 + 0) / 3)
    assert result.mean_iou_foreground == pytest.approx((0.4 + 0) / 2)
    assert result.mean_f1 == pytest.approx((4 / 6 + 4 / 7) / 3)
    assert result.mean_accuracy == pytest.approx(4 / 9)
    assert result.overall_accuracy == 4 / 7
    assert result.truth_pixels.tolist() == [3, 3, 1]
    assert result.predicted_pixels.tolist() == [3, 4, 0]
    assert result.summary() == {
        'mIoU': result.mean_iou, 'mIoU_foreground': result.mean_iou_foreground, 'mF1': result.mean_f1,
        'OA': result.overall_accuracy, 'mAcc': result.mean_accuracy}


def test_absent_class_is_left_out_and_a_false_one_is_not():
    # 'absent' is nowhere; 'false' is predicted twice and never true.
    matrix = np.array([[6, 0, 2], [0, 0, 0], [0, 0, 0]])
    result = scores(matrix, ['real', 'absent', 'false'])
    assert math.isnan(result.iou[1]) and math.isnan(result.f1[1])
    assert result.iou[[0, 2]].tolist() == [0.75, 0]
    assert result.mean_iou == 0.375
    assert result.mean_iou_foreground == 0.375  # without a background: all classes
    assert result.mean_accuracy == 0.75  # of the true classes only


def test_no_pixels_give_nan_not_a_warning(recwarn):
    result = scores(np.zeros((2, 2), np.int64), ['a', 'b'], background=0)
    assert all(math.isnan(value) for value in result.summary().values())
    assert not recwarn.list


def test_counts_beyond_two_to_the_24_are_exact():
    big = 2**24 + 1
    matrix = np.array([[big, 1], [0, 2**40]], np.int64)
    assert int(np.float32(big)) != big  # what a float32 sum would make of it
    result = scores(matrix, ['a', 'b'])
    assert result.truth_pixels.tolist() == [big + 1, 2**40]
    assert result.iou[0] == big / (big + 1)
    total = sum(confusion_numpy(TRUTH, PREDICTION, 3) * big for _ in range(2))
    assert total[0, 0] == 2 * 2 * big


def test_blocks_do_not_change_the_counts(monkeypatch):
    generator = np.random.default_rng(1)
    truth, prediction = generator.integers(0, 4, (2, 37, 11)).astype(np.uint8)
    truth[3:5] = 255
    whole = both(truth, prediction, 4)
    monkeypatch.setattr(module, 'CHUNK', 10)
    assert (both(truth, prediction, 4) == whole).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), number=st.integers(2, 7), size=st.integers(1, 400))
def test_equals_scikit_learn(seed, number, size):
    generator = np.random.default_rng(seed)
    truth, prediction = generator.integers(0, number, (2, size))
    truth[generator.random(size) < 0.1] = 255
    keep = truth != 255
    matrix = both(truth, prediction, number)
    if not keep.any():
        assert matrix.sum() == 0
        return
    labels = list(range(number))
    assert (matrix == sk.confusion_matrix(truth[keep], prediction[keep], labels=labels)).all()
    result = scores(matrix, [str(i) for i in labels])
    options = {'labels': labels, 'average': None, 'zero_division': np.nan}
    pair = truth[keep], prediction[keep]
    np.testing.assert_allclose(result.iou, _defined(sk.jaccard_score(*pair, labels=labels, average=None,
                                                                     zero_division=0), matrix))
    np.testing.assert_allclose(result.precision, sk.precision_score(*pair, **options))
    np.testing.assert_allclose(result.recall, sk.recall_score(*pair, **options))
    np.testing.assert_allclose(result.f1, _defined(sk.f1_score(*pair, **{**options, 'zero_division': 0}), matrix))
    assert result.overall_accuracy == pytest.approx(sk.accuracy_score(*pair))


def _defined(values, matrix):
    return np.where(matrix.sum(0) + matrix.sum(1) > 0, values, np.nan)


@pytest.mark.parametrize(('truth', 'prediction', 'message'), [
    ([0, 3], [0, 1], 'tile.png: the truth holds labels outside 0..2: 3 (1 px)'),
    ([0, 1, 1], [0, 9, 255], 'tile.png: the prediction holds labels outside 0..2: 9 (1 px), 255 (1 px)'),
])
def test_foreign_labels_are_named(truth, prediction, message):
    truth, prediction = np.array([truth], np.uint8), np.array([prediction], np.uint8)
    for count, make in ((confusion_numpy, np.asarray), (confusion_torch, torch.from_numpy)):
        with pytest.raises(UserError) as error:
            count(make(truth), make(prediction), 3, where='tile.png')
        assert str(error.value) == message


def test_negative_label_is_refused():
    with pytest.raises(UserError, match='outside 0..1: -1'):
        confusion_numpy(np.array([0, 1]), np.array([0, -1]), 2)


def test_other_size_is_named_width_by_height():
    with pytest.raises(UserError, match=r'a: the prediction is 4x2, the truth 2x4'):
        confusion_numpy(np.zeros((4, 2), np.uint8), np.zeros((2, 4), np.uint8), 2, where='a')


def test_no_ignore_index_counts_everything():
    assert both(np.array([0, 1], np.uint8), np.array([0, 0], np.uint8), 2, None).tolist() == [[1, 0], [1, 0]]


def test_scores_refuse_what_is_no_count_matrix():
    with pytest.raises(ValueError, match='2 x 2'):
        scores(np.zeros((3, 3), np.int64), ['a', 'b'])
    with pytest.raises(ValueError, match='integer'):
        scores(np.zeros((2, 2)), ['a', 'b'])
    with pytest.raises(ValueError, match='background = 2'):
        scores(np.zeros((2, 2), np.int64), ['a', 'b'], background=2)
    with pytest.raises(ValueError, match='missed'):
        scores(np.zeros((2, 2), np.int64), ['a', 'b'], missed=np.zeros(3, np.int64))


def test_missed_pixels_are_misses_and_no_false_alarms():
    many = 2**40  # beyond float32 and int32
    result = scores(np.array([[many, 0], [0, 3]]), ['a', 'b'], missed=np.array([many + 1, 0]))
    assert result.truth_pixels.tolist() == [2 * many + 1, 3]
    assert result.predicted_pixels.tolist() == [many, 3]
    assert result.precision.tolist() == [1, 1]
    assert result.iou[0] == result.recall[0] == many / (2 * many + 1)
    assert result.overall_accuracy == (many + 3) / (2 * many + 4)
