"""Expected calibration error on examples small enough to work out by hand."""

import json
import math

import numpy as np
import pytest
import torch

from projects.engine.errors import UserError
from projects.evaluation.calibration import BINS, Calibration, confidence_of


def test_error_by_hand():
    # Bin (13/15, 14/15] holds 0.9 four times, 3 right: gap |3/4 - 0.9| = 0.15.
    # Bin (7/15, 8/15] holds 0.5 once, right: gap 0.5. ECE = 4/5 * 0.15 + 1/5 * 0.5 = 0.22.
    calibration = Calibration()
    calibration.add(np.array([0.9, 0.9, 0.9, 0.9, 0.5]), np.array([True, True, True, False, True]))
    assert calibration.count.tolist() == [0] * 7 + [1] + [0] * 5 + [4, 0]
    assert calibration.correct.tolist() == [0] * 7 + [1] + [0] * 5 + [3, 0]
    assert calibration.error == pytest.approx(0.22)
    assert calibration.accuracy[13] == 0.75
    assert calibration.mean_confidence[13] == pytest.approx(0.9)
    assert math.isnan(calibration.accuracy[0])


def test_bins_are_closed_above():
    calibration = Calibration()
    calibration.add(np.array([0.0, 0.2, np.nextafter(0.2, 1), 1.0]), np.ones(4, bool))
    assert np.flatnonzero(calibration.count).tolist() == [0, 2, 3, BINS - 1]


def test_overconfident_network_by_hand():
    calibration = Calibration()
    calibration.add(np.full(10, 1.0), np.arange(10) < 6)
    assert calibration.error == pytest.approx(0.4)


def test_sums_equal_one_go_and_counts_are_int64():
    generator = np.random.default_rng(0)
    confidence, right = generator.random(1000), generator.random(1000) < 0.5
    whole, first, second = Calibration(), Calibration(), Calibration()
    whole.add(confidence, right)
    first.add(confidence[:300], right[:300])
    second.add(confidence[300:], right[300:])
    both = first + second
    assert both.count.tolist() == whole.count.tolist() and both.correct.tolist() == whole.correct.tolist()
    assert both.error == pytest.approx(whole.error, abs=1e-12)
    assert both.count.dtype == both.correct.dtype == np.int64 and both.confidence.dtype == np.float64
    both.count[0] = 2**40
    assert (both + both).count[0] == 2**41


def test_empty_is_nan_and_survives_json():
    assert math.isnan(Calibration().error)
    calibration = Calibration()
    calibration.add(np.array([0.7]), np.array([True]))
    again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert again.error == calibration.error == pytest.approx(0.3)


def test_confidence_is_the_largest_softmax():
    logits = torch.tensor([[[2.0, 1000.0]], [[0.0, -1000.0]], [[1.0, 0.0]]])
    assert torch.allclose(confidence_of(logits), logits.softmax(0).amax(0))
    assert confidence_of(logits.softmax(0), are_probabilities=True)[0, 0] == pytest.approx(0.6652, abs=1e-4)
    assert confidence_of(logits.bfloat16()).dtype == torch.float32


def test_confidence_of_one_channel_is_that_of_the_likelier_class():
    assert confidence_of(torch.tensor([[[0.0, -2.0]]])).tolist()[0] == pytest.approx([0.5, 0.8808], abs=1e-4)


def test_nan_confidence_is_an_error():
    with pytest.raises(UserError, match='not finite'):
        Calibration().add(np.array([0.5, np.nan]), np.array([True, True]))
