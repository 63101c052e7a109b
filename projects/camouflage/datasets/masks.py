"""Masks of camouflaged objects: 0/255 with grey edges, or 0/1; both come out as 0 and 1.

mmseg ignores the label 255, so a mask that is not binarised teaches background alone; and one of all 255 in a data set
of 0/1 (or of all 1 in one of 0/255) reads as the opposite of what it is, without anything failing. So the values of a
data set are settled once, and a mask that has others is refused.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from projects.camouflage.datasets.pictures import DEEP_GREY, open_picture
from projects.engine.errors import UserError

VALUES = ('auto', '0/255', '0/1')
THRESHOLD = 128  # of 0/255: foreground lies above it, as the field's evaluators have it


def read_levels(path: str | Path) -> np.ndarray:
    """Read a mask as (H, W) uint8 levels as they are stored, 0..255.

    Colours are reduced where all channels are equal (a palette of such colours too); a palette of other colours gives
    its indices; alpha counts for nothing where it is the same everywhere; 16 bits become 8 where they exceed 255.

    Raises:
        UserError: missing, damaged, channels that differ, or an alpha channel that varies.
    """
    with open_picture(path) as picture:
        picture.load()
        if picture.mode == '1':
            picture = picture.convert('L')
        if picture.mode == 'P':
            colours = np.asarray(picture.convert('RGB'))
            equal = (colours == colours[..., :1]).all()
            return np.ascontiguousarray(colours[..., 0]) if equal else np.array(picture)
        if picture.mode in DEEP_GREY:
            values = np.asarray(picture).astype(np.int64)
            if values.min() < 0 or values.max() > 65535:
                raise UserError(f'{path}: expected a mask of 8 or 16 bits, found values {values.min()} to '
                                f'{values.max()}')
            return (values >> 8 if values.max() > 255 else values).astype(np.uint8)
        if picture.mode not in ('L', 'LA', 'RGB', 'RGBA'):
            raise UserError(f'{path}: expected a mask in grey, found mode {picture.mode}')
        array = np.atleast_3d(np.asarray(picture))
    if array.shape[2] in (2, 4):
        alpha, array = array[..., -1], array[..., :-1]
        if alpha.min() != alpha.max():
            raise UserError(f'{path}: expected a mask without transparency, found an alpha channel of {alpha.min()} '
                            f'to {alpha.max()}')
    if not (array == array[..., :1]).all():
        y, x = np.argwhere((array != array[..., :1]).any(axis=2))[0]
        raise UserError(f'{path}: expected a mask in grey (equal channels), found colour {tuple(array[y, x].tolist())} '
                        f'at ({x}, {y})')
    return np.ascontiguousarray(array[..., 0])


def binarise(levels: np.ndarray, values: str, path: str | Path) -> np.ndarray:
    """Return a mask as (H, W) uint8 of 0 and 1.

    Args:
        levels: (H, W) uint8 as :func:`read_levels` returns it.
        values: '0/255' (foreground is above 128: grey edges are in order) or '0/1'.
        path: Of the file, for messages.

    Raises:
        UserError: the mask has the values of the other kind.
    """
    highest = int(levels.max())
    if values == '0/1':
        if highest > 1:
            raise UserError(f'{path}: expected a mask of 0 and 1, as the others of its data set, found {_told(levels)}')
        return levels
    if 0 < highest <= THRESHOLD:
        raise UserError(f'{path}: expected a mask of 0 and 255 (foreground above {THRESHOLD}), as the others of its '
                        f'data set, found {_told(levels)}')
    return (levels > THRESHOLD).astype(np.uint8)


def kind_of(levels: np.ndarray) -> str | None:
    """Return '0/255' or '0/1' for a mask that holds both sides; None for one that does not tell."""
    low, high = int(levels.min()), int(levels.max())
    if low == 0 and high == 1:
        return '0/1'
    return '0/255' if low <= THRESHOLD < high else None


def settle_values(masks: Sequence[str | Path], needed: int = 5, place: str = 'mask_values') -> str:
    """Return '0/255' or '0/1': what most of the first masks that hold both background and foreground have.

    Args:
        masks: The masks of one data set. They are looked at in an order that spreads over them, until `needed` have
            been found that tell. Where none tells, masks of one value only decide: any above 1 means '0/255', else
            any 1 means '0/1', else '0/255'.
        needed: How many are asked, an odd number.
        place: What to call the data set in a message.

    Raises:
        UserError: a mask cannot be read, or as many have the one kind as the other.
    """
    votes: Counter[str] = Counter()
    highest = 0
    for path in _spread(masks):
        levels = read_levels(path)
        kind = kind_of(levels)
        highest = max(highest, int(levels.max()))
        if kind:
            votes[kind] += 1
        if votes.total() == needed:
            break
    if not votes:
        return '0/1' if highest == 1 else '0/255'
    (kind, number), *others = votes.most_common()
    if others and others[0][1] == number:
        raise UserError(f"{place}: expected masks of one kind, found {number} of 0/255 and as many of 0/1: set "
                        "mask_values='0/255' or '0/1'")
    return kind


def check_values(values: str) -> str:
    """Return `values` where it is one of :data:`VALUES`, else raise :class:`UserError`."""
    if values not in VALUES:
        raise UserError(f'mask_values: expected one of {", ".join(VALUES)}, found {values!r}')
    return values


def _spread(items: Sequence, steps: int = 16) -> list:
    """Return all items in an order whose beginning already spreads over them."""
    stride = max(1, len(items) // steps)
    return [item for start in range(stride) for item in items[start::stride]]


def _told(levels: np.ndarray) -> str:
    found = np.unique(levels).tolist()
    if len(found) == 1:
        return f'{found[0]} everywhere'
    return 'values ' + (', '.join(map(str, found)) if len(found) <= 4 else f'{found[0]} to {found[-1]}')
