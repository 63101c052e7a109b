"""Echoes on the way of a pulse, and which of them a receiver tells apart as returns."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from projects.scenes.lidar_random import uniform

MAX_RETURNS = 5
APART = 0.7  # metres along the ray that a receiver can tell two returns apart
GOES_ON = (0.56, 0.45, 0.36, 0.3, 0.0)  # share of pulses that see something behind the leaves of return 1, 2, …


@dataclass(frozen=True, eq=False)
class Echoes:
    """What pulses may bring back; arrays of one length.

    Attributes:
        pulse: index of the pulse.  s, c: where the ray is aimed at.  drop: below the base level, metres.
        solid: nothing comes after it.  object: id.  part: index + 1 or 0.  face: row or -1.  shine: share of light.
    """

    pulse: np.ndarray
    s: np.ndarray
    c: np.ndarray
    drop: np.ndarray
    solid: np.ndarray
    object: np.ndarray
    part: np.ndarray
    face: np.ndarray
    shine: np.ndarray

    def __len__(self) -> int:
        return len(self.pulse)

    def kept(self, keep: np.ndarray) -> 'Echoes':
        """Those that ``keep`` (a mask or an index) names."""
        return Echoes(*(getattr(self, f.name)[keep] for f in fields(self)))

    @staticmethod
    def joined(parts: Sequence['Echoes']) -> 'Echoes':
        """One after the other."""
        return Echoes(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Echoes)))


def returns_of(echoes: Echoes, keys: np.ndarray) -> tuple[Echoes, np.ndarray, np.ndarray]:
    """Decide which echoes become returns, from the first on: each takes light, and needs some way to the last one.

    Args:
        keys: (P,) of the pulses' random numbers.
    Returns:
        (returns sorted by pulse and way, their numbers from 1, the number of returns of their pulse).
    """
    n = len(keys)
    # A ground or a face counts before leaves at the same place
    echoes = echoes.kept(np.lexsort((~echoes.solid, echoes.drop, echoes.pulse)))
    pulse, drop, solid = echoes.pulse, echoes.drop, echoes.solid
    rank = np.arange(len(pulse)) - np.searchsorted(pulse, np.arange(n))[pulse]
    number, kept = np.ones(len(pulse), np.int64), np.zeros(len(pulse), bool)
    last, count, alive = np.full(n, -np.inf), np.zeros(n, np.int64), np.ones(n, bool)
    order = np.argsort(rank, kind='stable')
    first = np.searchsorted(rank[order], np.arange(int(rank.max(initial=-1)) + 2))
    for r, (low, high) in enumerate(zip(first[:-1], first[1:])):
        rows = order[low:high]
        p = pulse[rows]
        ok = alive[p] & (drop[rows] - last[p] > APART) & (count[p] < MAX_RETURNS)
        rows, p = rows[ok], p[ok]
        kept[rows] = True
        count[p] += 1
        number[rows] = count[p]
        last[p] = drop[rows]
        onward = uniform(keys[p], 50 + r) < np.array(GOES_ON)[count[p] - 1]
        alive[p] = ~solid[rows] & ((echoes.part[rows] > 0) | onward)
    return echoes.kept(kept), number[kept], count[pulse[kept]]
