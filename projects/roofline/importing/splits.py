"""Which images train, which validate, which test: by a hash of their names, whole map sheets together."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import shapely

from projects.engine.errors import UserError
from projects.roofline.annotations import SPLITS

TOUCHING = 1e-3  # of an image: tiles of one grid share a little, by rounding


def group_names(names: Sequence[str], pattern: str | None) -> list[str]:
    """Return which map sheet each image is of.

    Args:
        names: File names.
        pattern: A regular expression, searched in the name; its first group, or all of it, names the sheet. None:
            every image by itself.

    Raises:
        UserError: The pattern is none, or an image does not match it.
    """
    if pattern is None:
        return list(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f'--group: expected a regular expression, found {pattern!r} ({error})') from error
    groups = []
    for name in names:
        found = expression.search(name)
        if found is None:
            raise UserError(f'--group: expected every name to match {pattern!r}, found {name}')
        groups.append(found[1] if expression.groups and found[1] is not None else found[0])
    return groups


def join_overlaps(groups: Sequence[str], grounds: Sequence[np.ndarray | None]) -> list[str]:
    """Join the groups whose images show the same ground.

    Args:
        groups: One an image.
        grounds: The corners of each image, (4, 2) in any one system; None where it is not georeferenced. Images that
            share less than :data:`TOUCHING` of the smaller one are neighbours.

    Returns:
        A group for each image; joined ones take the first of their names.
    """
    first = {name: name for name in groups}

    def root(name: str) -> str:
        while first[name] != name:
            first[name] = first[first[name]]
            name = first[name]
        return name

    placed = [row for row, ground in enumerate(grounds) if ground is not None]
    polygons = np.array([shapely.Polygon(grounds[row]) for row in placed], object)
    one, other = shapely.STRtree(polygons).query(polygons, predicate='intersects')
    one, other = one[one < other], other[one < other]
    areas = shapely.area(polygons)
    shared = shapely.area(shapely.intersection(polygons[one], polygons[other]))
    over = shared > TOUCHING * np.minimum(areas[one], areas[other])
    for row, column in zip(one[over], other[over], strict=True):
        low, high = sorted((root(groups[placed[row]]), root(groups[placed[column]])))
        first[high] = low
    return [root(name) for name in groups]


def draw_splits(groups: Sequence[str], val_share: float, test_share: float, seed: int = 0) -> list[str]:
    """Give every image a split: groups in the order of their hashes, test first, then val, the rest trains.

    The order depends on names and seed alone, so that more images hardly move the old ones.

    Args:
        groups: One an image; a group is never torn apart.
        val_share: Share of the images, 0..1.
        test_share: The same for test.
        seed: Of the hash.

    Returns:
        'train', 'val' or 'test' for each image. A split that has a share has at least one group, and train too.

    Raises:
        UserError: The shares are none, or there are fewer groups than splits.
    """
    for flag, share in (('--val-share', val_share), ('--test-share', test_share)):
        if not 0 <= share < 1:
            raise UserError(f'{flag}: expected a share of 0 up to 1, found {share:g}')
    if val_share + test_share >= 1:
        raise UserError(f'--val-share, --test-share: expected less than 1 together, found {val_share + test_share:g}')
    wanted = [(split, share) for split, share in (('test', test_share), ('val', val_share)) if share > 0]
    order = sorted(set(groups), key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())
    if len(order) < len(wanted) + 1:
        raise UserError(f'--val-share, --test-share: expected at least {len(wanted) + 1} groups of images that share '
                        f'no ground, one for each split, found {len(order)}')
    counts = {name: groups.count(name) for name in order}
    split_of, at = {}, 0
    for number, (split, share) in enumerate(wanted):
        have, left = 0, len(wanted) - number  # groups that must stay for the splits behind, train among them
        while at < len(order) - left and (
                not have or have + counts[order[at]] / 2 <= share * len(groups)):
            have += counts[order[at]]
            split_of[order[at]] = split
            at += 1
    return [split_of.get(name, 'train') for name in groups]


def count_splits(splits: Sequence[str]) -> str:
    """Return ``240 train, 60 val`` for the splits that have images."""
    return ', '.join(f'{splits.count(name)} {name}' for name in SPLITS if name in splits) or 'no images'
