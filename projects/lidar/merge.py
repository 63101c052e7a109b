"""Patches of several scales as one set, in given shares: a manifest, no copies (specs/lidar.md, Splits and merging).

The seed's weights, 0.4/0.3/0.3, had no effect there: each scale kept ``min(n, n * w / min(w))``, all of it. Here
a weight is the scale's share of the merged set. No patch occurs twice, so the scale that is scarcest for its weight
bounds the set: ``total = min over scales of available / weight``.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import write_text

FORMAT = 'terrace-lidar-merge-1'


class Ref(Protocol):
    """What a merge has to know of a patch; :class:`projects.lidar.store.PatchRef` has it."""

    tile: str
    scale: str
    number: int
    points: int


R = TypeVar('R', bound=Ref)


@dataclass(frozen=True)
class Merge:
    """A merge as it stands in its file.

    Args:
        weights: Scale to share of the set, summing to 1.
        seed: Which patches, and in which order.
        split: Of all patches, or None.
        patches: (tile, scale, number, points) in the order of the set.
    """

    weights: dict[str, float]
    seed: int
    split: str | None
    patches: tuple[tuple[str, str, int, int], ...]

    def counts(self) -> dict[str, int]:
        """Return the number of patches of each scale, in the order of the weights."""
        found = Counter(scale for _, scale, _, _ in self.patches)
        return {scale: found[scale] for scale in self.weights}


def shares_of(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights as shares that sum to 1; scales without weight are left out.

    Raises:
        UserError: A weight is negative or no number, or none is above zero.
    """
    weights = {str(scale): float(weight) for scale, weight in weights.items()}
    for scale, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise UserError(f'weights: {scale}: expected a number of at least 0, found {weight}')
    total = sum(weights.values())
    if not total:
        raise UserError(f'weights: expected one above 0, found {weights}')
    return {scale: weight / total for scale, weight in weights.items() if weight}


def quotas(available: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Return how many patches each scale gives to the largest set that has the shares and repeats nothing.

    Args:
        available: Scale to its number of patches.
        weights: Scale to weight; see :func:`shares_of`.

    Returns:
        Scale to count: each within one patch of ``total * share``, together ``floor(total)`` (largest remainders).

    Raises:
        UserError: A scale with a weight has no patches.
    """
    shares = shares_of(weights)
    for scale in shares:
        if not available.get(scale):
            raise UserError(f'weights: {scale}: expected a scale that has patches, found only '
                            f'{", ".join(name for name, count in available.items() if count) or "none"}')
    total = math.floor(min(available[scale] / share for scale, share in shares.items()) + 1e-9)
    total = max(total, 1)  # one patch of the heaviest scale, where even that is more than the shares allow
    exact = {scale: total * share for scale, share in shares.items()}
    counts = {scale: math.floor(value + 1e-9) for scale, value in exact.items()}
    by_remainder = sorted(shares, key=lambda scale: (counts[scale] - exact[scale], -shares[scale], scale))
    for scale in by_remainder[:total - sum(counts.values())]:
        counts[scale] += 1
    return counts


def weighted_merge(refs: Sequence[R], weights: Mapping[str, float], seed: int = 0) -> list[R]:
    """Choose patches so that the scales have given shares, without repetition.

    Args:
        refs: Patches, of any scales; those of a scale without weight are left out.
        weights: Scale to its share of the result (normalised to sum 1).
        seed: Fixes which patches and their order; the order of ``refs`` does not matter.

    Returns:
        The chosen patches, shuffled.

    Raises:
        UserError: see :func:`quotas`.
    """
    by_scale: dict[str, list[R]] = {}
    for ref in sorted(refs, key=lambda ref: (ref.tile, ref.number)):
        by_scale.setdefault(ref.scale, []).append(ref)
    chosen: list[R] = []
    for scale, count in quotas({scale: len(found) for scale, found in by_scale.items()}, weights).items():
        # A generator of its own: another scale's weight changes how many are taken here, never which come first.
        order = np.random.default_rng([seed, *scale.encode()]).permutation(len(by_scale[scale]))
        chosen += [by_scale[scale][index] for index in order[:count]]
    return [chosen[index] for index in np.random.default_rng(seed).permutation(len(chosen))]


def merge_of(refs: Sequence[R], weights: Mapping[str, float], seed: int = 0, split: str | None = None) -> Merge:
    """Merge, see :func:`weighted_merge`, into what :func:`write_merge` writes."""
    chosen = weighted_merge(refs, weights, seed)
    return Merge(shares_of(weights), seed, split, tuple((ref.tile, ref.scale, ref.number, ref.points)
                                                        for ref in chosen))


def write_merge(path: str | Path, merge: Merge) -> None:
    """Write a merge manifest: JSON, one patch a line."""
    head = dict(format=FORMAT, weights=merge.weights, seed=merge.seed, split=merge.split, counts=merge.counts(),
                columns=['tile', 'scale', 'number', 'points'])
    lines = ',\n  '.join(json.dumps(patch, ensure_ascii=False) for patch in merge.patches)
    write_text(path, json.dumps(head, indent=1, ensure_ascii=False)[:-2] + f',\n "patches": [\n  {lines}\n ]\n}}\n')


def read_merge(path: str | Path) -> Merge:
    """Read a merge manifest.

    Raises:
        UserError: The file is missing or is none.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: cannot read the merge manifest: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{path}: expected a merge manifest of tools/lidar/merge.py, found no JSON: {error}') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        found = content.get('format') if isinstance(content, dict) else type(content).__name__
        raise UserError(f'{path}: format: expected {FORMAT} (tools/lidar/merge.py writes it), found {found!r}')
    try:
        return Merge({str(scale): float(share) for scale, share in content['weights'].items()}, int(content['seed']),
                     content['split'], tuple((str(tile), str(scale), int(number), int(points))
                                             for tile, scale, number, points in content['patches']))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f'{path}: expected weights, seed, split and patches (tile, scale, number, points), found '
                        f'{error!r}') from error


def chosen_of(path: str | Path, refs: Sequence[R]) -> list[R]:
    """Return the patches that a merge manifest names, in its order.

    Args:
        path: The manifest.
        refs: The patches of the store, of one split or of all.

    Raises:
        UserError: A patch is not among ``refs`` (another store, another split), or has another number of points (the
            store was prepared anew).
    """
    known = {(ref.tile, ref.scale, ref.number): ref for ref in refs}
    chosen = []
    for tile, scale, number, points in read_merge(path).patches:
        ref = known.get((tile, scale, number))
        if ref is None:
            raise UserError(f'{path}: patch {scale}/{number} of {tile}: expected a patch of the store and split that '
                            'are read, found none; was it merged from another store or split?')
        if ref.points != points:
            raise UserError(f'{path}: patch {scale}/{number} of {tile}: expected {points:,} points, found '
                            f'{ref.points:,}: the store was prepared anew, merge again')
        chosen.append(ref)
    return chosen
