"""Progress of long work: a bar with a rate and an end on a terminal, silence elsewhere."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar('T')


def progress(items: Iterable[T], description: str, total: int | None = None, unit: str = 'it') -> Iterable[T]:
    """Iterate over ``items`` with a progress bar on standard error when that is a terminal."""
    return tqdm(items, desc=description, total=total, unit=unit, disable=not sys.stderr.isatty(), dynamic_ncols=True)
