"""Checks of the numbers that a config gives to a transform."""

from collections.abc import Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any

from projects.engine.errors import UserError


def check_share(where: str, **values: float) -> None:
    """Check that probabilities and shares lie in 0..1.

    Raises:
        UserError: one does not; names `where` (the transform) and the argument.
    """
    for name, value in values.items():
        if not _is_number(value) or not 0 <= value <= 1:
            raise UserError(f'{where}: {name}: expected a number in 0..1, found {value!r}')


def check_count(where: str, lowest: int = 1, **values: int) -> None:
    """Check that numbers are whole and at least `lowest`; errors as in :func:`check_share`."""
    for name, value in values.items():
        if not _is_whole(value) or value < lowest:
            raise UserError(f'{where}: {name}: expected a whole number from {lowest} on, found {value!r}')


def check_range(where: str, name: str, value: Any, lowest: float, highest: float, whole: bool = False) -> tuple:
    """Return (low, high) with lowest <= low <= high <= highest; errors as in :func:`check_share`."""
    one = _is_whole if whole else _is_number
    if not isinstance(value, Sequence) or len(value) != 2 or not all(one(end) for end in value) or not (
            lowest <= value[0] <= value[1] <= highest):
        kind = 'whole numbers' if whole else 'numbers'
        raise UserError(f'{where}: {name}: expected two {kind} (low, high) in {lowest:g}..{highest:g}, found {value!r}')
    return tuple(value)


def check_size(where: str, size: int | Sequence[int]) -> tuple[int, int]:
    """Return a side or (height, width) as (height, width); errors as in :func:`check_share`."""
    pair = (size, size) if _is_whole(size) else size
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2 or not all(
            _is_whole(side) and side >= 1 for side in pair):
        raise UserError(f'{where}: size: expected a side or (height, width) in px, from 1 on, found {size!r}')
    return tuple(int(side) for side in pair)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
