"""Random numbers of a laser pulse: functions of what it is (strip, channel, line, number), never of when it is drawn.

So a pulse returns the same points in whatever tile, batch or order it is computed. Exponential and normal numbers come
from tables: a look-up is exact where a logarithm may differ by its last bit between the lanes of a processor.
"""

from statistics import NormalDist

import numpy as np

_U = np.uint32
_TABLE = 4096  # entries of a table of quantiles
_CENTRES = (np.arange(_TABLE) + 0.5) / _TABLE
_NORMAL = np.array([NormalDist().inv_cdf(float(p)) for p in _CENTRES])
_EXPONENTIAL = -np.log1p(-_CENTRES)


def _mixed(h: np.ndarray) -> np.ndarray:
    h = h ^ (h >> _U(16))
    h *= _U(0x7FEB352D)
    h ^= h >> _U(15)
    h *= _U(0x846CA68B)
    h ^= h >> _U(16)
    return h


def keys_of(*numbers: np.ndarray | int) -> np.ndarray:
    """One uint32 key from whole numbers of any sign, broadcast against each other."""
    with np.errstate(over='ignore'):
        key = _U(0x9E3779B9)
        for number in numbers:
            word = np.asarray(number).astype(np.int64).astype(_U)
            key = _mixed((word + _U(0x85EBCA6B)) ^ (np.asarray(key) * _U(0xC2B2AE35)))
        return key


def _drawn(keys: np.ndarray, salt: int) -> np.ndarray:
    with np.errstate(over='ignore'):
        return _mixed(keys ^ _U((salt * 0x9E3779B1 + 0x632BE5AB) & 0xFFFFFFFF))


def uniform(keys: np.ndarray, salt: int) -> np.ndarray:
    """Float64 in [0, 1), one per key; another ``salt`` gives independent numbers."""
    return _drawn(keys, salt) * (1 / 2**32)


def exponential(keys: np.ndarray, salt: int) -> np.ndarray:
    """Float64 of mean 1, below 9.1."""
    return _EXPONENTIAL[_drawn(keys, salt) >> _U(20)]


def normal(keys: np.ndarray, salt: int) -> np.ndarray:
    """Float64 of mean 0 and standard deviation 1, within 3.7."""
    return _NORMAL[_drawn(keys, salt) >> _U(20)]
