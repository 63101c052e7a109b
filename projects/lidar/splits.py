"""Which ground trains, which validates, which tests: blocks are assigned, and so are all scales at once.

Pooling patches and splitting them at random puts 98.9 % of the validation points inside a training patch
(specs/lidar.md). Here a split is made of ground: blocks, or squares of several blocks, and blocks of different tiles
that share ground stay together. :func:`check_splits` does not trust any of it: it counts shared points in the patch
lists themselves.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.lidar.store import SPLIT_NAMES, SPLITS, Store, Tile

# Metres that blocks of different tiles may share along their border: less than a step of 1 cm. Tiles that have both
# borders share none.
TOUCH = 0.005
SLACK = 0.5  # metres by which blocks may be larger than told: sides of tiles are rarely a multiple of them


def assign(store: Store, ratios: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0, block_size: float | None = None,
           assignment: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Give every block a split.

    Args:
        store: To split.
        ratios: Shares of the points for train, val and test.
        seed: Of the draw. The same tiles and seed give the same splits, in whatever order they were prepared.
        block_size: Metres of ground that stay together, at least the store's blocks; default: single blocks.
        assignment: Split to tiles (``NAME``) or blocks (``NAME/NUMBER``) that belong to it; everything must be named.

    Returns:
        What :func:`write_splits` writes: ``blocks`` (tile to block number to split), ``points`` of each split, how it
        was made.

    Raises:
        UserError: Ratios or names are wrong, or named tiles of two splits share ground.
    """
    names, boxes, counts = _blocks(store)
    groups = _groups(boxes, [name for name, _ in names], block_size)
    if assignment is not None:
        splits = _named(store, names, assignment)
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            if len({splits[row] for row in rows}) > 1:
                other = next(row for row in rows if splits[row] != splits[rows[0]])
                raise UserError(f'{store.root}: {_told(names[rows[0]])} ({splits[rows[0]]}) and {_told(names[other])} '
                                f'({splits[other]}) share ground or a block of --block-size; name them for one split')
    else:
        splits = _drawn(store, names, counts, groups, ratios, seed)
    blocks: dict[str, dict[str, str]] = {}
    for (name, number), split in zip(names, splits):
        blocks.setdefault(name, {})[str(number)] = split
    return {'ratios': list(ratios) if assignment is None else None, 'seed': seed, 'block_size': block_size,
            'ground': store.ground,
            'points': {split: sum(count for count, one in zip(counts, splits) if one == split)
                       for split in SPLIT_NAMES}, 'blocks': blocks}


def write_splits(store: Store, splits: Mapping[str, Any]) -> None:
    """Write ``STORE/splits.json`` and use it in this store from now on."""
    write_json(store.root / SPLITS, dict(splits))
    store.splits = dict(splits)


def check_splits(store: Store) -> dict[str, dict[str, int]]:
    """Prove that no point of a patch of one split lies in a patch or in a block of another, at any scale.

    From the patch lists: of every tile and scale, each listed row is looked up in its block, and is marked with the
    splits of the patches that list it. Across tiles that share ground, points of equal place count as one, and no
    listed point may lie inside a block of another split.

    Returns:
        By scale, the number of distinct points that each split's patches list.

    Raises:
        UserError: There are no splits, they are of other blocks, or a point is shared.
    """
    if store.splits is None:
        raise UserError(f'{store.root / SPLITS}: expected the splits, found no file; run tools/lidar/split.py')
    store.check_splits_fit()
    listed = {scale: dict.fromkeys(SPLIT_NAMES, 0) for scale in store.scales}
    marks = {}
    for name in sorted(store.tiles):
        tile = store.tiles[name]
        marks[name] = _marks(store, tile, listed)
        shared = (marks[name] & (marks[name] - 1)) != 0  # more than one bit
        if shared.any():
            raise UserError(f'{tile.path}: {np.count_nonzero(shared):,} points are listed in patches of two splits, '
                            f'row {int(np.flatnonzero(shared)[0])} among them')
    for one, other in _pairs_that_meet(store):
        shared = _shared_places(store.tiles[one], marks[one], store.tiles[other], marks[other])
        if shared:
            raise UserError(f'{store.root}: {shared:,} points lie in tile {one} and in tile {other} at the same place '
                            'and belong to different splits')
        for tile, there in ((one, other), (other, one)):
            inside = _inside_other_splits(store, tile, marks[tile], there)
            if len(inside):
                raise UserError(f'{store.root}: {len(inside):,} points of tile {tile}, row {int(inside[0])} among '
                                f'them, lie in blocks of tile {there} that belong to other splits')
    return listed


def _marks(store: Store, tile: Tile, listed: dict[str, dict[str, int]]) -> np.ndarray:
    """Return the splits whose patches list each point as bits ``(N,)`` uint8, over all scales."""
    bit_of = np.array([_bit(store.split_of(tile.name, number)) for number in range(len(tile.record['blocks']))],
                      np.uint8)
    own = bit_of[tile.array('block')]
    total = np.zeros(tile.points, np.uint8)
    for scale in store.scales:
        marks = np.zeros(tile.points, np.uint8)
        blocks = tile.array(f'{scale}/patch_block')
        for number in range(tile.patch_count(scale)):
            marks[tile.patch_rows(scale, number)] |= bit_of[blocks[number]]
        wrong = np.flatnonzero((marks != 0) & (marks != own))
        if len(wrong):
            raise UserError(f'{tile.path}: {scale} m: {len(wrong):,} points lie in a block of another split than their '
                            f'patch, row {int(wrong[0])} among them')
        for number, split in enumerate(SPLIT_NAMES):
            listed[scale][split] += int(np.count_nonzero(marks == 1 << number))
        total |= marks
    return total


def _shared_places(one: Tile, marks: np.ndarray, other: Tile, other_marks: np.ndarray) -> int:
    """Count points of equal place that two tiles list for different splits."""
    low = np.maximum(one.record['bounds'][:2], other.record['bounds'][:2])
    high = np.minimum(one.record['bounds'][2:], other.record['bounds'][2:])
    found = []
    for tile, bits in ((one, marks), (other, other_marks)):
        xyz = tile.array('xyz')
        step = tile.quantum
        inside = np.flatnonzero((bits != 0) & ((xyz[:, :2] * step + tile.origin[:2] >= low - step)
                                               & (xyz[:, :2] * step + tile.origin[:2] <= high + step)).all(axis=1))
        found.append((np.rint(tile.positions(inside) / step).astype(np.int64), bits[inside]))
    places = np.concatenate([found[0][0], found[1][0]])
    if not len(found[0][0]) or not len(found[1][0]):
        return 0
    _, number = np.unique(places, axis=0, return_inverse=True)
    number = number.reshape(-1)
    together = np.zeros(number.max() + 1, np.uint8)
    np.bitwise_or.at(together, number, np.concatenate([found[0][1], found[1][1]]))
    return int(np.count_nonzero(together & (together - 1)))


def _inside_other_splits(store: Store, name: str, marks: np.ndarray, there: str) -> np.ndarray:
    """Return the rows of a tile that it lists and that lie inside blocks of another split of another tile.

    Points on a block's border are not inside it: tiles may be cut with both borders.
    """
    tile, blocks = store.tiles[name], np.array(store.tiles[there].record['blocks'], float).reshape(-1, 4)
    margin = TOUCH + tile.quantum  # positions are rounded: what _groups takes to touch must pass
    low, high = blocks[:, :2] + margin, blocks[:, 2:] - margin
    bounds = tile.record['bounds']
    near = np.flatnonzero((low < bounds[2:]).all(axis=1) & (high > bounds[:2]).all(axis=1))
    if not len(near):
        return np.zeros(0, np.int64)
    xy = tile.array('xyz')[:, :2] * tile.quantum + tile.origin[:2]
    rows = np.flatnonzero((marks != 0) & (xy > low[near].min(axis=0)).all(axis=1)
                          & (xy < high[near].max(axis=0)).all(axis=1))
    wrong = np.zeros(len(rows), bool)
    for number in near:
        bit = _bit(store.split_of(there, int(number)))
        if bit:
            inside = ((xy[rows] > low[number]) & (xy[rows] < high[number])).all(axis=1)
            wrong |= inside & (marks[rows] != bit)
    return rows[wrong]


def _pairs_that_meet(store: Store) -> list[tuple[str, str]]:
    names = sorted(store.tiles)
    boxes = np.array([store.tiles[name].record['bounds'] for name in names], float).reshape(-1, 4)
    pairs = []
    for row, box in enumerate(boxes):
        meets = (boxes[:, :2] <= box[2:]).all(axis=1) & (boxes[:, 2:] >= box[:2]).all(axis=1)
        pairs += [(names[row], names[other]) for other in np.flatnonzero(meets) if other > row]
    return pairs


def _blocks(store: Store) -> tuple[list[tuple[str, int]], np.ndarray, list[int]]:
    """Return tile and number, box and points of every block, in the order of names."""
    names, boxes, counts = [], [], []
    for name in sorted(store.tiles):
        tile = store.tiles[name]
        found = tile.record['blocks']
        names += [(name, number) for number in range(len(found))]
        boxes += found
        counts += np.bincount(tile.array('block'), minlength=len(found)).tolist()
    return names, np.array(boxes, float).reshape(-1, 4), counts


def _groups(boxes: np.ndarray, tiles: list[str], block_size: float | None) -> np.ndarray:
    """Return which blocks stay together ``(n,)``: those of one square of ground, and those of tiles that overlap."""
    parent = np.arange(len(boxes))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    if block_size is not None:
        sides = (boxes[:, 2:] - boxes[:, :2]).max(initial=0)
        if block_size < sides - SLACK:
            raise UserError(f'--block-size: expected at least the {sides:g} m of the blocks of the store, '
                            f'found {block_size:g}')
        squares = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2 / block_size).astype(np.int64)
        first: dict[tuple[int, int], int] = {}
        for row, square in enumerate(map(tuple, squares.tolist())):
            parent[root(row)] = root(first.setdefault(square, row))
    tile_of = np.array(tiles)
    for row, box in enumerate(boxes):
        meets = ((np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])) > TOUCH).all(axis=1)
        for other in np.flatnonzero(meets & (tile_of != tile_of[row])):
            parent[root(int(other))] = root(row)
    return np.array([root(row) for row in range(len(boxes))])


def _drawn(store: Store, names: list[tuple[str, int]], counts: list[int], groups: np.ndarray, ratios: Sequence[float],
           seed: int) -> list[str]:
    if len(ratios) != len(SPLIT_NAMES) or min(ratios) < 0 or not math.isclose(sum(ratios), 1.0, abs_tol=1e-6):
        raise UserError(f'--ratios: expected three shares of at least 0 that sum to 1, found {list(ratios)}')
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    wanted = [name for name, ratio in zip(SPLIT_NAMES, ratios) if ratio > 0]
    if len(members) < len(wanted):
        raise UserError(f'{store.root}: expected at least {len(wanted)} blocks of ground that stay together, one for '
                        f'each of {", ".join(wanted)}, found {len(members)}; prepare with a smaller --block-size')
    # The draw depends on the blocks' names, not on how many others there are.
    members.sort(key=lambda rows: hashlib.sha256(f'{seed}:{_told(names[rows[0]])}'.encode()).digest())
    total = sum(counts)
    have = dict.fromkeys(SPLIT_NAMES, 0)
    splits = [''] * len(names)
    for place, rows in enumerate(members):
        empty = [name for name in wanted if not have[name]]
        left = len(members) - place
        # The split that lacks most of its share; no split stays empty.
        choice = max(empty if len(empty) >= left else wanted,
                     key=lambda name: ratios[SPLIT_NAMES.index(name)] - have[name] / max(total, 1))
        for row in rows:
            splits[row] = choice
        have[choice] += max(sum(counts[row] for row in rows), 1)
    return splits


def _named(store: Store, names: list[tuple[str, int]], assignment: Mapping[str, Sequence[str]]) -> list[str]:
    splits: dict[tuple[str, int], str] = {}
    for split, given in assignment.items():
        if split not in SPLIT_NAMES:
            raise UserError(f'--assign: expected a split of {", ".join(SPLIT_NAMES)}, found {split!r}')
        for text in given:
            found = [name for name in names if text in (name[0], _told(name))]
            if not found:
                raise UserError(f'--assign {split}: expected a tile or TILE/BLOCK of the store, found {text!r}')
            for name in found:
                if splits.setdefault(name, split) != split:
                    raise UserError(f'--assign: {_told(name)}: expected one split, found {splits[name]} and {split}')
    missing = [name for name in names if name not in splits]
    if missing:
        raise UserError(f'--assign: expected every block, found none for {_told(missing[0])} and '
                        f'{len(missing) - 1} more')
    return [splits[name] for name in names]


def _told(name: tuple[str, int]) -> str:
    return f'{name[0]}/{name[1]}'


def _bit(split: str) -> int:
    return 1 << SPLIT_NAMES.index(split) if split in SPLIT_NAMES else 0
