"""The views of an image at test time: scales, flips, and how they are merged."""

import math
from collections.abc import Sequence
from typing import Any

from projects.engine.errors import UserError

MERGES = ('prob', 'logit', 'vote')
FLIPS: dict[str, tuple[int, ...]] = {'none': (), 'horizontal': (-1,), 'vertical': (-2,)}  # the axes that are turned
SCALES = (0.75, 1.0, 1.25)
LARGEST_SCALE = 8.0


def check_views(scales: Sequence[float], flips: Sequence[str], merge: str, place: str = 'tta_model') -> None:
    """Raise :class:`UserError` unless scales, flips and merge are ones that ``EnsembleTTA`` takes.

    Args:
        scales, flips, merge: See :class:`projects.multiscale.ensemble.EnsembleTTA`.
        place: Where they stand, for the message.
    """
    if merge not in MERGES:
        raise UserError(f'{place}.merge: expected one of {", ".join(MERGES)}, found {merge!r}')
    if not scales or not all(is_number(scale) and 0 < scale <= LARGEST_SCALE for scale in scales):
        raise UserError(f'{place}.scales: expected one or more numbers above 0 and up to {LARGEST_SCALE:g}, '
                        f'found {list(scales)}')
    if not flips or not set(flips) <= set(FLIPS):
        raise UserError(f'{place}.flips: expected one or more of {", ".join(FLIPS)}, found {list(flips)}')
    for name, values in (('scales', scales), ('flips', flips)):
        if len(set(values)) < len(values):
            raise UserError(f'{place}.{name}: expected each view once, found {list(values)}')


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
