"""The field's measures: equal to PySODMetrics, by hand, and at the edges."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import convolve, distance_transform_edt

from projects.camouflage.metrics import camouflage_scores, dataset_scores, score_image
from projects.camouflage.metrics.pair import pair
from projects.camouflage.metrics.scores import SCORES
from projects.camouflage.metrics.weighted_f import weighted_f_measure
from projects.engine.errors import UserError


@st.composite
def maps(draw, whole=False):
    """A prediction and a truth of one size; ``whole``: with object and background."""
    shape = draw(st.tuples(st.integers(3, 24), st.integers(3, 24)))
    prediction = draw(arrays(np.uint8, shape))
    truth = draw(arrays(np.bool_, shape)).astype(np.uint8) * np.uint8(255)
    if whole:
        truth[1, 1], truth[-1, -1], truth[0, 0] = 0, 255, 255
    return prediction, truth


def disc(shape=(60, 90), centre=(25, 40), radius=14):
    ys, xs = np.ogrid[:shape[0], :shape[1]]
    return (((ys - centre[0]) ** 2 + (xs - centre[1]) ** 2) < radius**2).astype(np.uint8) * np.uint8(255)


def test_golden_values_of_pysodmetrics(shared):
    with np.load(shared / 'parity' / 'cod_metrics.npz') as pack:
        images, dataset = json.loads(str(pack['per_image'])), json.loads(str(pack['dataset']))
        found = [score_image(pack[f'pred_{row["id"]}'], pack[f'gt_{row["id"]}']) for row in images]
    assert len(images) == 14
    for row, one in zip(images, found):
        expected = {name: value for name, value in row.items() if name != 'id'}
        assert {name: one.scores[name] for name in expected} == pytest.approx(expected, abs=1e-7, rel=0)
    whole = dataset_scores(found)
    assert {name: whole[name] for name in dataset} == pytest.approx(dataset, abs=1e-7, rel=0)
    assert set(whole) == set(dataset) | {'IoU'} == set(SCORES)


def test_values_by_hand():
    truth = np.array([[255, 255, 0, 0], [255, 255, 0, 0]], np.uint8)
    prediction = np.array([[250, 10, 10, 10], [250, 250, 250, 10]], np.uint8)
    scores = camouflage_scores(prediction, truth)
    assert scores['MAE'] == 2 / 8  # stretched to 0 and 1
    assert scores['IoU'] == 3 / 5
    # twice the mean is 1, so that the adaptive map is the prediction: P = R = 3/4
    assert scores['F_adp'] == pytest.approx(0.75)
    assert scores['F_max'] == pytest.approx(0.75)
    # at the threshold 0 all is object: P = 1/2, R = 1
    assert scores['F_mean'] == pytest.approx((255 * 0.75 + 1.3 * 0.5 / (0.15 + 1)) / 256)
    # both halves are 1/2 of the image: agreement of +-1/2 with +-1/2 is 1, else 0
    assert scores['E_adp'] == pytest.approx(6 / 7)
    assert set(scores) == set(SCORES) and all(type(value) is float for value in scores.values())


def test_a_perfect_prediction():
    scores = camouflage_scores(disc(), disc())
    assert scores['MAE'] == 0 and scores['IoU'] == 1
    for name in ('S', 'wF', 'F_adp', 'F_max', 'E_adp', 'E_max'):
        # E divides by one pixel less than there are, so a perfect map has a bit more than 1
        assert scores[name] == pytest.approx(60 * 90 / (60 * 90 - 1) if name[0] == 'E' else 1, abs=1e-9), name


def test_the_opposite_of_the_truth():
    scores = camouflage_scores(255 - disc(), disc())
    assert scores['MAE'] == 1 and scores['IoU'] == 0 and scores['S'] == 0 and scores['F_adp'] == 0
    assert scores['wF'] == pytest.approx(0, abs=1e-9)


def test_no_object():
    empty = np.zeros((8, 10), np.uint8)
    quiet, loud = camouflage_scores(empty, empty), camouflage_scores(np.full((8, 10), 255, np.uint8), empty)
    assert quiet['S'] == 1 and quiet['MAE'] == 0 and quiet['IoU'] == 1 and quiet['wF'] == 0 and quiet['F_max'] == 0
    assert loud['S'] == 0 and loud['MAE'] == 1 and loud['IoU'] == 0 and loud['E_max'] == 0
    assert quiet['E_mean'] == pytest.approx(255 / 256 * 80 / 79)  # the threshold 0 calls all object


def test_nothing_but_object():
    full = np.full((8, 10), 255, np.uint8)
    scores = camouflage_scores(full, full)
    assert scores['S'] == 1 and scores['MAE'] == 0 and scores['IoU'] == 1 and scores['wF'] == pytest.approx(1)
    assert camouflage_scores(np.zeros((8, 10), np.uint8), full)['S'] == 0


def test_a_constant_prediction_is_not_stretched():
    scores = camouflage_scores(np.full((60, 90), 51, np.uint8), disc())
    share = (disc() > 0).mean()
    assert scores['MAE'] == pytest.approx(0.8 * share + 0.2 * (1 - share))
    assert scores['F_adp'] == 0  # twice the mean is above all


@pytest.mark.parametrize('place', [np.s_[-1, 3:7], np.s_[2:6, -1], np.s_[-1, -1]])
def test_an_object_on_the_last_line_has_a_score(place):
    """PySODMetrics gives NaN: the regions beyond the centroid have no pixel."""
    truth = np.zeros((9, 12), np.uint8)
    truth[place] = 255
    assert camouflage_scores(truth, truth)['S'] == pytest.approx(1, abs=1e-6)
    assert math.isfinite(camouflage_scores(255 - truth, truth)['S'])


def test_iou_is_of_the_map_as_it_is():
    prediction = np.full((4, 4), 100, np.uint8)
    prediction[:2] = 127
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = 255
    assert camouflage_scores(prediction, truth)['IoU'] == 0  # stretched it would be 1
    prediction[:2] = 128
    assert camouflage_scores(prediction, truth)['IoU'] == 1


def test_the_maximum_of_a_data_set_is_that_of_the_mean_curve():
    truth, half = disc(), (disc() // 255 * 50).astype(np.uint8)
    half[0, 0], loud = 255, np.maximum(disc(), 120)
    loud[-1, -1] = 0
    images = [score_image(half, truth), score_image(loud, truth)]
    whole = dataset_scores(images)
    for name in ('E', 'F'):
        curve = (images[0].curves[name] + images[1].curves[name]) / 2
        assert whole[f'{name}_max'] == curve.max() < np.mean([one.scores[f'{name}_max'] for one in images])
    assert whole['F_mean'] == pytest.approx(np.mean([one.scores['F_mean'] for one in images]))
    assert whole['S'] == np.mean([one.scores['S'] for one in images])
    with pytest.raises(ValueError, match='no images'):
        dataset_scores([])


@settings(max_examples=60, deadline=None)
@given(maps(whole=True))
def test_weighted_f_equals_its_definition(drawn):
    """Margolin's text, with the exact transform of the whole image, which takes one of several nearest pixels."""
    prediction, truth = drawn
    counted, object_ = pair(prediction, truth), truth > 0
    error = np.abs(counted.normalised - object_)
    distance, (rows, columns) = distance_transform_edt(~object_, return_indices=True)
    line = np.exp(-np.arange(-3, 4) ** 2 / 50)
    window = np.outer(line, line) / line.sum() ** 2
    mean = convolve(error[rows, columns], window, mode='constant')
    weighted = np.where(object_, np.minimum(error, mean), error * (2 - 0.5 ** (distance / 5)))
    hits = object_.sum() - weighted[object_].sum()
    recall, precision = hits / object_.sum(), hits / max(hits + weighted[~object_].sum(), 1e-300)
    expected = 2 * recall * precision / (recall + precision) if hits > 1e-12 else 0
    assert weighted_f_measure(counted) == pytest.approx(expected, abs=1e-7)


def test_far_false_alarms_weigh_twice():
    truth, near, far = disc((400, 600), (60, 60), 30), *(disc((400, 600), (60, 60), 30) for _ in range(2))
    near[60, 92:102] = 255
    far[390, 590:600] = 255
    number = int((truth > 0).sum())
    hits = number / (number + 20 - 20 * 2**-70)
    assert camouflage_scores(far, truth)['wF'] == pytest.approx(2 * hits / (1 + hits), abs=1e-9)
    assert camouflage_scores(near, truth)['wF'] > camouflage_scores(far, truth)['wF'] + 5e-4


def test_where_an_array_lies_in_memory_does_not_matter():
    prediction, truth = np.random.default_rng(0).integers(0, 256, (31, 43), np.uint8), disc((31, 43), (12, 20), 6)
    found, held = set(), []
    for size in range(40):
        held.append(np.empty(700 * size, np.uint8))  # the next arrays come to lie elsewhere
        found.add(tuple(camouflage_scores(prediction.copy(), truth.copy()).values()))
    assert len(found) == 1


@settings(max_examples=60, deadline=None)
@given(maps())
def test_scores_are_shares(drawn):
    scores = camouflage_scores(*drawn)
    slack = drawn[0].size / (drawn[0].size - 1)
    for name, value in scores.items():
        assert -1e-9 <= value <= (slack if name[0] == 'E' else 1) + 1e-6, name
    assert all(scores[f'{name}_mean'] <= scores[f'{name}_max'] + 1e-12 for name in 'EF')


@settings(max_examples=40, deadline=None)
@given(maps())
def test_complement_and_mirror(drawn):
    """The error of the opposite is the rest to 1; pixels, not their places, decide on all but S and wF."""
    prediction, truth = drawn
    scores = camouflage_scores(prediction, truth)
    if prediction.min() != prediction.max():
        assert camouflage_scores(255 - prediction, truth)['MAE'] == pytest.approx(1 - scores['MAE'])
    mirrored = camouflage_scores(prediction[::-1], truth[::-1])
    for name in set(SCORES) - {'S', 'wF'}:
        assert mirrored[name] == pytest.approx(scores[name], abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(maps())
def test_the_truth_is_cut_above_128(drawn):
    prediction, truth = drawn
    other = np.where(truth > 0, 129, 128).astype(np.uint8)
    assert camouflage_scores(prediction, other) == camouflage_scores(prediction, truth)


def test_large_images_are_counted_in_strips(monkeypatch):
    rng = np.random.default_rng(0)
    prediction = rng.integers(0, 256, (60, 90), np.uint8)
    whole = camouflage_scores(prediction, disc())
    monkeypatch.setattr('projects.camouflage.metrics.pair.STRIP', 200)
    assert camouflage_scores(prediction, disc()) == whole


@pytest.mark.parametrize(('prediction', 'truth', 'message'), [
    (np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8), r'prediction: expected .* uint8, found float32'),
    (np.zeros((2, 3), np.uint8), np.zeros((2, 3), bool), r'truth: expected .* uint8, found bool'),
    (np.zeros((2, 3, 1), np.uint8), np.zeros((2, 3), np.uint8), r'prediction: .* found uint8 \(2, 3, 1\)'),
    (np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.uint8), r'prediction: .* found uint8 \(0, 3\)'),
    ([[0]], np.zeros((1, 1), np.uint8), 'prediction: .* found list'),
    (np.zeros((2, 3), np.uint8), np.zeros((3, 3), np.uint8), 'expected one size, found 3x2 and 3x3'),
    (np.zeros((2, 3), np.uint8), np.eye(2, 3, dtype=np.uint8), 'truth: expected 0 and 255, found 0 and 1'),
])
def test_bad_input_is_named(prediction, truth, message):
    with pytest.raises(UserError, match=message):
        camouflage_scores(prediction, truth)
