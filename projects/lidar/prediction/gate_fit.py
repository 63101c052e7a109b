"""Fit a gate by likelihood: the weights of the scales under which the labels are most probable."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from projects.engine.errors import UserError
from projects.lidar.classes import IGNORE, LABELS, candidates
from projects.lidar.prediction.gate import Gate

PENALTY = 1e-3  # on the squared weights (of standardised features): points of one building are hardly independent
FLOOR = 1e-7  # of a probability


def label_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability that each scale gives each point's label, (S, n) float32.

    A label that leaves several classes open ("some building part") takes the sum over them, as in training.

    Args:
        probabilities: (S, n, C).
        labels: (n,) of projects/lidar/classes.py, none of them :data:`IGNORE`.
    """
    table = candidates().astype(np.float32)
    result = np.empty(probabilities.shape[:2], np.float32)
    for label in np.unique(labels):
        own = labels == label
        result[:, own] = probabilities[:, own] @ table[label]
    return result


def fit_gate(features: np.ndarray, likelihood: np.ndarray, scales: Sequence[str], penalty: float = PENALTY) -> Gate:
    """Fit the softmax-linear gate that maximises the mean of ``log Σ_s weight_s(point) p_s(label)``.

    Args:
        features: (n, F) of :func:`projects.lidar.prediction.gate.gate_features`.
        likelihood: (S, n), of :func:`label_probabilities`.
        scales: Their names.
        penalty: On the squares of weights and biases.

    Raises:
        UserError: There is one scale only, or not a single point.
    """
    count, width = len(scales), features.shape[1]
    if count < 2:
        raise UserError(f'a gate chooses between scales: expected two or more, found {", ".join(scales) or "none"}')
    if not len(features):
        raise UserError('a gate is fitted on labelled points that every scale has predicted: found none')
    mean, std = features.mean(axis=0), features.std(axis=0)
    std = np.where(std > 1e-6, std, 1.0)
    inputs = np.concatenate([(features - mean) / std, np.ones((len(features), 1))], axis=1)
    likelihood = np.maximum(likelihood, FLOOR).astype(np.float64)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = flat.reshape(count, width + 1)
        scores = parameters @ inputs.T
        scores -= scores.max(axis=0)
        gates = np.exp(scores)
        gates /= gates.sum(axis=0)
        joint = gates * likelihood
        total = joint.sum(axis=0)
        slope = (gates - joint / total) @ inputs / len(inputs)
        value = -np.log(total).mean() + penalty * (parameters**2).sum()
        return value, (slope + 2 * penalty * parameters).ravel()

    solution = minimize(loss, np.zeros(count * (width + 1)), jac=True, method='L-BFGS-B', options={'maxiter': 500})
    parameters = solution.x.reshape(count, width + 1)
    parameters = parameters - parameters.mean(axis=0)  # a softmax does not see what all scales share
    return Gate(tuple(scales), tuple(mean.tolist()), tuple(std.tolist()),
                tuple(tuple(row) for row in parameters[:, :width].tolist()), tuple(parameters[:, width].tolist()))


def negative_log_likelihood(likelihood: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the mean of ``-log Σ_s weight_s p_s(label)``, nats; ``weights`` (S, n), default all the same."""
    share = np.full(likelihood.shape, 1 / len(likelihood)) if weights is None else weights
    return float(-np.log(np.maximum((share * likelihood).sum(axis=0, dtype=np.float64), FLOOR)).mean())


def labelled(labels: np.ndarray) -> np.ndarray:
    """Return which labels say anything, (n,) bool."""
    return (labels != IGNORE) & (labels < len(LABELS))
