"""Splits that keep what belongs together: by spatial blocks, by groups, as the publisher did, or as told."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from projects.engine.errors import UserError
from projects.landcover.data.ground import SHRINK, by_footprint, footprints
from projects.landcover.data.layouts import SPLITS
from projects.landcover.data.patches import Patch
from projects.landcover.taxonomy import suggest

RULES = ('blocks', 'groups', 'official')
RESTARTS = 8
ROUNDS = 10
LACKING = 0.5  # more than what any shift of shares within one class is worth
MOST_LEFT_OUT = 0.5


def split_by_blocks(
    patches: Sequence[Patch],
    ratios: Sequence[float],
    seed: int,
    block_size: float | None = None,
    gap: float = 0.0,
) -> tuple[list[Patch], list[tuple[Patch, str]], float]:
    """Split by square blocks of ground.

    A patch belongs to the block that holds its centre. Blocks go to splits by :func:`assign`. Where patches of two
    splits still share ground (they straddle a border), the one of the split that comes first in train, val, test is
    left out: a smaller training set is better than a test on known ground.

    Args:
        patches: The patches; all must be georeferenced.
        ratios: Shares of train, val and test.
        seed: Fixes the result.
        block_size: Side of a block, m. Default: four times the largest side of a patch, or less where that gives
            fewer than 12 blocks.
        gap: Least distance between patches of different splits, m. Default: they may touch.

    Returns:
        The patches with their splits; those left out, each with the reason; and the side of a block, m.

    Raises:
        UserError: a patch is not georeferenced, CRSs are partly missing, there are too few blocks, or more than half
            of the patches would be left out.
    """
    bare = [patch for patch in patches if patch.corners is None]
    if bare:
        raise UserError(
            f'{bare[0].sample.image}: not georeferenced ({len(bare)} of {len(patches)} images): spatial blocks need '
            'GeoTIFFs; use --split-by groups'
        )
    frames = list(footprints(patches))
    if len(frames) > 1:
        raise UserError(f'{len(frames[0][0])} of {len(patches)} images have no CRS: spatial blocks need one for all')
    members, shapes = frames[0]
    boxes = np.array([shape.bounds for shape in shapes])[np.argsort(members)]
    boxes += np.array([-1, -1, 1, 1]) * SHRINK * max(patch.pixel_size for patch in patches)  # as they were
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    origin = boxes[:, :2].min(0)
    side = tile_side(patches)
    if block_size is None:
        sizes = [round(factor * side, 2) for factor in (4, 3, 2, 1)]
        block_size = next((size for size in sizes if len(_blocks(centres, origin, size)[0]) >= 12), sizes[-1])
    if not block_size > 0:
        raise UserError(f'--block-size: expected metres above 0, found {block_size}')
    names, block_of = _blocks(centres, origin, block_size)
    what = f'blocks of {block_size:g} m (patches of up to {side:.4g} m)'
    splits = assign(_contents(patches, block_of, len(names)), ratios, seed, what)
    placed = [patch.put(SPLITS[splits[block]]) for patch, block in zip(patches, block_of)]
    kept, left_out = leave_out_shared(placed, gap)
    if len(left_out) > MOST_LEFT_OUT * len(patches):
        raise UserError(
            f'{what}: {len(left_out)} of {len(patches)} images lie on the borders of the splits and would be left '
            'out; use a larger --block-size'
        )
    return kept, left_out, block_size


def tile_side(patches: Sequence[Patch]) -> float:
    """Return the largest side of the footprints of georeferenced patches, in metres, along the axes of their CRS."""
    sides = []
    for members, shapes in footprints(patches):
        shrunk = 2 * SHRINK * max(patches[i].pixel_size for i in members)
        sides += [max(right - left, top - bottom) + shrunk for left, bottom, right, top in (s.bounds for s in shapes)]
    return float(max(sides))


def leave_out_shared(patches: Sequence[Patch], gap: float = 0.0) -> tuple[list[Patch], list[tuple[Patch, str]]]:
    """Take out patches until no two splits share ground: those of train before those of val before those of test."""
    neighbours: dict[int, dict[int, str]] = defaultdict(dict)
    for i, j, reason in by_footprint(patches, gap):
        neighbours[i][j] = neighbours[j][i] = reason
    out: dict[int, str] = {}
    for split in SPLITS:
        for i in sorted(neighbours):
            if patches[i].split != split or i in out:
                continue
            later = [j for j in neighbours[i] if j not in out and SPLITS.index(patches[j].split) > SPLITS.index(split)]
            if later:
                j = min(later)
                out[i] = f'{neighbours[i][j]}: {patches[j].id} of {patches[j].split}'
    kept = [patch for i, patch in enumerate(patches) if i not in out]
    return kept, [(patches[i], out[i]) for i in sorted(out)]


def split_by_groups(patches: Sequence[Patch], ratios: Sequence[float], seed: int) -> list[Patch]:
    """Split so that no group (site, region, scene) is torn apart.

    Raises:
        UserError: there are fewer groups than splits.
    """
    names = sorted({patch.sample.group for patch in patches})
    group_of = [names.index(patch.sample.group) for patch in patches]
    splits = assign(_contents(patches, group_of, len(names)), ratios, seed, 'groups')
    return [patch.put(SPLITS[splits[group]]) for patch, group in zip(patches, group_of)]


def split_as_told(patches: Sequence[Patch], assignment: Mapping[str, Sequence[str]]) -> list[Patch]:
    """Split by an explicit assignment of groups: {split: groups}.

    Raises:
        UserError: an unknown split or group, a group that is assigned twice, or one that is not assigned.
    """
    groups = sorted({patch.sample.group for patch in patches})
    split_of: dict[str, str] = {}
    for split, names in assignment.items():
        if split not in SPLITS:
            raise UserError(f'--assign: unknown split {split!r}{suggest(split, SPLITS)}')
        for name in names:
            if name not in groups:
                raise UserError(f'--assign: no group {name!r}{suggest(name, groups)}')
            if split_of.setdefault(name, split) != split:
                raise UserError(f'--assign: group {name!r} is in {split_of[name]} and in {split}')
    missing = [name for name in groups if name not in split_of]
    if missing:
        raise UserError(f'--assign: {len(missing)} groups have no split: {", ".join(missing[:5])}')
    return [patch.put(split_of[patch.sample.group]) for patch in patches]


def split_as_published(patches: Sequence[Patch]) -> list[Patch]:
    """Split as the publisher of the data set did.

    Raises:
        UserError: an image is in no split.
    """
    lost = [patch for patch in patches if patch.sample.split is None]
    if lost:
        raise UserError(
            f'{lost[0].sample.image}: in no official split ({len(lost)} of {len(patches)} images); use --split-by '
            'groups or blocks'
        )
    return [patch.put(patch.sample.split) for patch in patches]


def assign(contents: np.ndarray, ratios: Sequence[float], seed: int, what: str = 'units') -> np.ndarray:
    """Put units into splits so that every split gets its share of the images and of every class.

    Greedy, largest unit first, each to the split where the cost grows least; then single units are moved and pairs
    swapped while that helps. The best of several seeded starts counts. The cost is the squared distance to the wanted
    shares, and a fixed amount for each class that a split lacks though there is enough of it for all.

    Args:
        contents: (n_units, 1 + n_classes) non-negative: number of images and of pixels of each class in each unit.
        ratios: Wanted shares of the splits; they sum to 1; 0 leaves a split empty.
        seed: Fixes the result.
        what: What the units are, for the error.

    Returns:
        (n_units,) int64: index of the split of each unit.

    Raises:
        UserError: the ratios are no shares, or there are fewer units than splits to fill.
    """
    ratios = np.asarray(ratios, float)
    if len(ratios) != len(SPLITS) or (ratios < 0).any() or not np.isclose(ratios.sum(), 1):
        raise UserError(f'--ratios: expected three shares (train val test) that sum to 1, found {ratios.tolist()}')
    active = np.flatnonzero(ratios > 0)
    if len(contents) < len(active):
        raise UserError(f'cannot fill {len(active)} splits from {len(contents)} {what}')
    problem = _Problem.make(contents, ratios[active])
    results = [problem.solve(np.random.default_rng([seed, restart])) for restart in range(RESTARTS)]
    return active[min(results, key=lambda result: round(problem.total(result), 12))]


@dataclass(frozen=True)
class _Problem:
    """The cost of an assignment.

    Args:
        shares: (units, features): share of each unit in the images and in each class.
        goal: (splits, features): wanted shares.
        weights: (features,): the images weigh as much as all classes together, a rare class as much as a frequent one.
        needed: (features,) bool: enough units hold it for every split to get one.
    """

    shares: np.ndarray
    goal: np.ndarray
    weights: np.ndarray
    needed: np.ndarray

    @classmethod
    def make(cls, contents: np.ndarray, ratios: np.ndarray) -> '_Problem':
        present = contents.sum(0) > 0
        weights = present / max(1, present[1:].sum())
        weights[0] = 1
        return cls(
            shares=contents / np.maximum(contents.sum(0), 1),
            goal=np.broadcast_to(ratios[:, None], (len(ratios), contents.shape[1])),
            weights=weights,
            needed=(contents > 0).sum(0) >= len(ratios),
        )

    def cost(self, filled: np.ndarray) -> np.ndarray:
        """Return the cost of each split (S,) that is filled by shares (S, features)."""
        lacking = self.needed & (filled < 1e-9)
        return ((filled - self.goal) ** 2 + LACKING * lacking) @ self.weights

    def total(self, result: np.ndarray) -> float:
        """Return the cost of an assignment (units,)."""
        return float(self.cost(self.fill(result)).sum())

    def fill(self, result: np.ndarray) -> np.ndarray:
        """Return the shares (S, features) that an assignment puts into each split."""
        return np.stack([self.shares[result == split].sum(0) for split in range(len(self.goal))])

    def solve(self, generator: np.random.Generator) -> np.ndarray:
        """Return an assignment (units,) that no move of one unit improves."""
        count, splits = len(self.shares), len(self.goal)
        # Largest first, shaken a little so that the starts differ.
        order = np.argsort(-self.shares.max(1) * generator.uniform(0.5, 1.0, count), kind='stable')
        filled = np.zeros(self.goal.shape)
        result = np.full(count, -1)
        sizes = np.zeros(splits, int)
        for position, unit in enumerate(order):
            growth = self.cost(filled + self.shares[unit]) - self.cost(filled)
            if (sizes == 0).sum() >= count - position:  # no unit to spare: the rest must fill the empty splits
                growth[sizes > 0] = np.inf
            choice = int(growth.argmin())
            result[unit] = choice
            filled[choice] += self.shares[unit]
            sizes[choice] += 1
        for _ in range(ROUNDS):
            if not (self.move(result) or self.swap(result, generator)):
                break
        return result

    def move(self, result: np.ndarray) -> bool:
        """Move single units to other splits while the cost falls; say whether any moved."""
        moved = False
        filled = self.fill(result)
        for unit, old in enumerate(result):
            if (result == old).sum() == 1:
                continue
            now = self.cost(filled)
            gain = self.cost(filled + self.shares[unit]) - now
            gain += self.cost(filled - self.shares[unit])[old] - now[old]
            gain[old] = 0
            new = int(gain.argmin())
            if gain[new] < -1e-9:
                result[unit] = new
                filled = self.fill(result)  # anew: differences of floats would drift
                moved = True
        return moved

    def swap(self, result: np.ndarray, generator: np.random.Generator, tries: int = 200) -> bool:
        """Swap random pairs of units of different splits where the cost falls; say whether any were."""
        swapped = False
        filled = self.fill(result)
        for i, j in generator.integers(len(result), size=(tries, 2)):
            a, b = result[i], result[j]
            if a == b:
                continue
            change = np.zeros(filled.shape)
            change[a] = self.shares[j] - self.shares[i]
            change[b] = -change[a]
            if self.cost(filled + change).sum() < self.cost(filled).sum() - 1e-9:
                result[i], result[j] = b, a
                filled = self.fill(result)
                swapped = True
        return swapped


def _blocks(centres: np.ndarray, origin: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    cells = np.floor((centres - origin) / size).astype(np.int64)
    names, block_of = np.unique(cells, axis=0, return_inverse=True)
    return names, block_of.ravel()


def _contents(patches: Sequence[Patch], unit_of: Sequence[int], count: int) -> np.ndarray:
    contents = np.zeros((count, 1 + len(patches[0].pixels)))
    for patch, unit in zip(patches, unit_of):
        contents[unit, 0] += 1
        contents[unit, 1:] += patch.pixels
    return contents
