"""Checks of the numbers that a config gives to a transform."""

from collections.abc import Sequence
from numbers import Integral, Real

from projects.engine.errors import UserError


def check_share(where: str, **values: float) -> None:
    """Check that probabilities and shares lie in 0..1.

    Raises:
        UserError: one does not; names `where` (the transform) and the argument.
    """
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise UserError(f'{where}: {name}: expected a number in 0..1, found {value!r}')


def check_count(where: str, **values: int) -> None:
    """Check that sizes and counts are whole numbers from 1 on; errors as in :func:`check_share`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise UserError(f'{where}: {name}: expected a whole number from 1 on, found {value!r}')


def check_size(where: str, size: int | Sequence[int]) -> tuple[int, int]:
    """Return a side or (height, width) as (height, width); errors as in :func:`check_share`."""
    pair = (size, size) if isinstance(size, Integral) else size
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in pair):
        raise UserError(f'{where}: size: expected a side or (height, width) in px, from 1 on, found {size!r}')
    return tuple(pair)
