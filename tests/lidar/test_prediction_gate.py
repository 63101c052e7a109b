"""Entropy, disagreement, merging, and the gate: its likelihood, its file and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.lidar.classes import BUILDING, IGNORE
from projects.lidar.prediction.gate import Gate, check_gate, gate_features, read_gate, write_gate
from projects.lidar.prediction.gate_fit import fit_gate, label_probabilities, labelled, negative_log_likelihood
from projects.lidar.prediction.merging import merge_scales
from projects.lidar.prediction.uncertainty import disagreement, relative_entropy

GATE = Gate(('50', '150'), (0.0, 2.0, 3.0), (1.0, 0.5, 4.0), ((0.1, 0.2, 0.3), (-0.1, -0.2, -0.3)), (0.5, -0.5))


def test_entropy_is_0_for_certainty_and_1_for_none() -> None:
    probabilities = np.array([[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]], np.float32)
    np.testing.assert_allclose(relative_entropy(probabilities), [0, 1, 0.5], atol=1e-6)


def test_disagreement_counts_only_the_scales_that_are_there() -> None:
    certain = np.eye(3, dtype=np.float32)
    probabilities = np.stack([certain[[0, 0, 0, 0, 0]], certain[[0, 1, 1, 1, 0]], certain[[0, 2, 2, 0, 0]]])
    covered = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]], bool)
    # all agree; all differ; two differ and the third is not there; one alone; none
    np.testing.assert_allclose(disagreement(probabilities, covered), [0, 1, 1, 0, 0], atol=1e-6)
    two_of_three = np.stack([certain[[0]], certain[[0]], certain[[1]]])
    expected = (-(2 / 3) * np.log(2 / 3) - (1 / 3) * np.log(1 / 3)) / np.log(3)
    np.testing.assert_allclose(disagreement(two_of_three, np.ones((3, 1), bool)), expected, atol=1e-6)


def test_merging_weighs_the_scales_that_are_there() -> None:
    probabilities = np.array([[[1, 0], [1, 0], [0, 0], [0, 0]], [[0, 1], [0, 0], [0, 1], [0, 0]]], np.float32)
    covered = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    np.testing.assert_allclose(merge_scales(probabilities, covered), [[0.5, 0.5], [1, 0], [0, 1], [0, 0]])
    weights = np.array([[0.25, 0.25, 1, 1], [0.75, 0.75, 0, 0]])  # at the third, the scale with the weight has no patch
    np.testing.assert_allclose(merge_scales(probabilities, covered, weights), [[0.25, 0.75], [1, 0], [0, 1], [0, 0]])


def test_a_building_label_takes_the_sum_over_the_parts() -> None:
    probabilities = np.full((1, 2, 30), 1 / 30, np.float32)
    found = label_probabilities(probabilities, np.array([BUILDING, 23], np.uint8))
    np.testing.assert_allclose(found, [[23 / 30, 1 / 30]], rtol=1e-5)
    assert labelled(np.array([0, 29, 30, IGNORE])).tolist() == [True, True, True, False]


def test_a_gate_learns_which_scale_knows_what() -> None:
    rng = np.random.default_rng(0)
    area = np.where(rng.random(4000) < 0.5, 80.0, 900.0)
    features = gate_features(area, rng.uniform(1, 3, 4000), rng.uniform(0, 10, 4000))
    small = area < 150
    likelihood = np.stack([np.where(small, 0.9, 0.2), np.where(small, 0.3, 0.8)]).astype(np.float32)
    gate = fit_gate(features, likelihood, ('50', '150'))
    weights = gate(features)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    assert weights[0, small].min() > 0.9 and weights[1, ~small].min() > 0.9
    assert negative_log_likelihood(likelihood, weights) < negative_log_likelihood(likelihood) - 0.2
    assert negative_log_likelihood(likelihood) == pytest.approx(
        -np.mean(np.log(np.where(small, 0.6, 0.5))), abs=1e-6)


def test_the_gradient_is_that_of_the_loss() -> None:
    """A constant gate has its optimum where it is known: three points of four favour scale 0 by 3 to 1, say."""
    features = np.zeros((4, 3))  # says nothing: only the biases are fitted
    likelihood = np.array([[1, 1, 1, 0], [0, 0, 0, 1]], np.float32)
    gate = fit_gate(features, likelihood, ('50', '150'), penalty=0.0)
    np.testing.assert_allclose(gate(features)[:, 0], [0.75, 0.25], atol=1e-3)  # the mixture's maximum likelihood


def test_a_gate_needs_two_scales_and_points() -> None:
    with pytest.raises(UserError, match='expected two or more, found 50'):
        fit_gate(np.zeros((3, 3)), np.ones((1, 3)), ('50',))
    with pytest.raises(UserError, match='found none'):
        fit_gate(np.zeros((0, 3)), np.ones((2, 0)), ('50', '150'))


def test_a_gate_comes_back_from_its_file(tmp_path: Path) -> None:
    write_gate(tmp_path / 'gate.json', GATE, points=17)
    assert read_gate(tmp_path / 'gate.json') == GATE
    assert json.loads((tmp_path / 'gate.json').read_text())['points'] == 17
    check_gate(GATE, ('50', '150'), 'gate.json')
    with pytest.raises(UserError, match='gate.json: scales: expected 50, 100, those that are predicted, found 50, 150'):
        check_gate(GATE, ('50', '100'), 'gate.json')


@pytest.mark.parametrize(('change', 'told'), [
    ({'version': 2}, 'version: expected 1, found 2'), ({'features': ['x']}, 'features: expected'),
    ({'bias': [0.0]}, 'bias: does not fit 2 scales'), ({'std': [0.0, 1.0, 1.0]}, 'std: does not fit'),
    ({'weights': [[0, 0, float('nan')], [0, 0, 0]]}, 'weights: does not fit'), ({'scales': None}, 'not a gate')])
def test_a_damaged_gate_is_refused_by_key(tmp_path: Path, change: dict, told: str) -> None:
    path = tmp_path / 'gate.json'
    write_gate(path, GATE)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=told):
        read_gate(path)


def test_a_missing_gate_names_its_maker(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='fit_gate'):
        read_gate(tmp_path / 'gate.json')
