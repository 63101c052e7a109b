"""Do experts specialise: what the chosen expert tells about the kind of scene, against chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.engine.errors import UserError


def mutual_information(first: Sequence[int], second: Sequence[int]) -> float:
    """Return the mutual information of two labellings of the same N things, in nats.

    It is estimated from the joint counts (plug-in), so it is above 0 for independent labellings too: compare it with
    :func:`permuted_null`.

    Args:
        first: One label each, such as the expert that a picture was sent to; any integers or texts.
        second: Another label each, such as the kind of scene.
    """
    first, second = _codes(first, second)
    joint = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(joint, (first, second), 1)
    joint /= joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / independent[there])).sum())


def permuted_null(first: Sequence[int], second: Sequence[int], generator: np.random.Generator,
                  permutations: int = 1000) -> np.ndarray:
    """Return the mutual information after shuffling one labelling, ``permutations`` times: what chance gives."""
    first, second = _codes(first, second)
    return np.array([mutual_information(first, generator.permutation(second)) for _ in range(permutations)])


@dataclass(frozen=True)
class Specialisation:
    """What :func:`specialisation` found.

    Args:
        information: Mutual information of expert and kind, in nats.
        share: That as a share of the entropy of the kinds, 0..1: 1 where the expert gives the kind away.
        null: 95th percentile of the permuted null, in nats.
        p_value: Share of permutations (with the observation itself) that reach the observed information.
    """

    information: float
    share: float
    null: float
    p_value: float


def specialisation(expert: Sequence[int], kind: Sequence[int], generator: np.random.Generator,
                   permutations: int = 1000) -> Specialisation:
    """Compare the mutual information of expert and kind with its permuted null.

    Args:
        expert: The expert of each picture.
        kind: The kind of each picture.
        generator: Draws the permutations.
        permutations: How many. Default 1000.
    """
    found = mutual_information(expert, kind)
    null = permuted_null(expert, kind, generator, permutations)
    entropy = mutual_information(kind, kind)
    reached = int((null >= found - 1e-12).sum())
    return Specialisation(found, found / entropy if entropy else 0.0, float(np.quantile(null, 0.95)),
                          (1 + reached) / (1 + permutations))


def _codes(first: Sequence[int], second: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    if len(first) != len(second) or not len(first):
        raise UserError(f'mutual information: expected two labellings of the same things, found {len(first)} and '
                        f'{len(second)} labels')
    return np.unique(first, return_inverse=True)[1], np.unique(second, return_inverse=True)[1]
