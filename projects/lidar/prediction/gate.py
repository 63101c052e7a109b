"""Which scale to trust at a point: a small softmax-linear model of building size, density and height.

``gate.json`` (tools/lidar/fit_gate.py writes it)::

    {"version": 1, "scales": ["50", "100", "150"], "features": ["log_area", "log_density", "height"],
     "mean": [...], "std": [...], "weights": [[...], ...], "bias": [...], …facts for people…}

A scale's weight at a point is the softmax over scales of ``bias + weights · (features - mean) / std``.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import read_versioned_json, write_json

VERSION = 1
FEATURES = ('log_area', 'log_density', 'height')
HEIGHTS = (-10.0, 60.0)  # metres; beyond lie outliers


@dataclass(frozen=True)
class Gate:
    """A fitted gate.

    Attributes:
        scales: Names of the scales S, in the order of the weights.
        mean, std: Of the features F.
        weights: (S, F).
        bias: (S,).
    """

    scales: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """From features (n, F) to the scales' weights (S, n) float32, which sum to one over the scales."""
        standard = (features - np.asarray(self.mean)) / np.asarray(self.std)
        scores = np.asarray(self.weights) @ standard.T + np.asarray(self.bias)[:, None]
        scores -= scores.max(axis=0)
        np.exp(scores, out=scores)
        return (scores / scores.sum(axis=0)).astype(np.float32)


def gate_features(building_area: np.ndarray, log_density: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return what a gate looks at, (n, 3) float64, columns :data:`FEATURES`.

    Args:
        building_area: m² of the footprint of the predicted building that a point belongs to, 0 for none; its logarithm
            ``log(1 + area)`` is the feature.
        log_density: ``log(1 + density)`` as the preparation measures it, at the first of the scales.
        height: Metres above the local ground.
    """
    return np.stack([np.log1p(np.asarray(building_area, np.float64)), np.asarray(log_density, np.float64),
                     np.clip(np.asarray(height, np.float64), *HEIGHTS)], axis=1)


def write_gate(path: str | Path, gate: Gate, **facts: Any) -> None:
    """Write a gate atomically; ``facts`` are further keys for people, which reading leaves aside."""
    write_json(path, {'version': VERSION, 'features': list(FEATURES), **asdict(gate), **facts})


def read_gate(path: str | Path) -> Gate:
    """Read a gate.

    Raises:
        UserError: The file is missing, no JSON, of another version, or a key is missing or wrong.
    """
    content = read_versioned_json(path, VERSION, 'tools/lidar/fit_gate.py')
    if tuple(content.get('features') or ()) != FEATURES:
        raise UserError(f'{path}: features: expected {list(FEATURES)}, found {content.get("features")!r}')
    try:
        gate = Gate(tuple(map(str, content['scales'])),
                    *(tuple(float(value) for value in content[key]) for key in ('mean', 'std')),
                    tuple(tuple(float(value) for value in row) for row in content['weights']),
                    tuple(float(value) for value in content['bias']))
    except KeyError as error:
        raise UserError(f'{path}: key {error} is missing') from error
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: not a gate: {error}') from error
    count, width = len(gate.scales), len(FEATURES)
    shapes = {'mean': len(gate.mean) == width, 'std': len(gate.std) == width and all(std > 0 for std in gate.std),
              'weights': [len(row) for row in gate.weights] == [width] * count, 'bias': len(gate.bias) == count}
    for key, right in shapes.items():
        if not right or not np.isfinite(content[key]).all():
            raise UserError(f'{path}: {key}: does not fit {count} scales and {width} features, or is not finite')
    return gate


def check_gate(gate: Gate, scales: tuple[str, ...], path: str | Path) -> None:
    """Raise :class:`UserError` unless a gate was fitted for these scales."""
    if gate.scales != tuple(scales):
        raise UserError(f'{path}: scales: expected {", ".join(scales)}, those that are predicted, found '
                        f'{", ".join(gate.scales)}; predict with --scales {" ".join(gate.scales)}')
