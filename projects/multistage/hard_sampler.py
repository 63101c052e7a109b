"""A sampler that shows hard images more often, exactly as often as their weights say."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from projects.engine.errors import UserError
from projects.multistage.difficulty import read_difficulty, read_weights
from projects.multistage.difficulty_rules import build_rule
from projects.multistage.sample_ids import named, sample_ids

WHERE = 'train_dataloader.sampler'


@DATA_SAMPLERS.register_module()
class HardSampleSampler(Sampler):
    """Draw each sample in proportion to its weight.

    A pass is drawn by systematic resampling: the weights are laid end to end in a shuffled order, and a comb of equally
    spaced teeth with a random offset picks the samples. So a sample occurs, in every pass, the floor or the ceiling
    of its expected number of times (independent draws would show some images of weight 3 not at all), and its
    expectation is exact. The arithmetic is that of integers. Then the draws are shuffled and dealt out to the ranks.

    The pass depends on (seed, number of the pass, weights) alone. All ranks draw the same one; where the length is no
    multiple of their number, the comb has as many more teeth as make it one, so that no draw is repeated.

    Args:
        dataset: The data set; it names its samples (see :func:`~projects.multistage.sample_ids.sample_ids`).
        difficulty: ``difficulty.json``, the seed's ``hard_samples_analysis.json``, or the seed's
            ``sample_weights.txt`` with its file of ids (then there is no rule to apply). None: all weights are 1 until
            a :class:`~projects.multistage.difficulty_hook.DifficultyHook` fills them.
        rule: Config of a rule (:mod:`~projects.multistage.difficulty_rules`). Default: the seed's, without a focus.
        length: Draws in a pass over all ranks: ``'weights'`` takes the sum of the weights, rounded.
        shuffle: Shuffle the draws of a pass. Without it they come in the data set's order; the comb's offset still
            changes from pass to pass.
        seed: The same one on all ranks. Default: rank 0's.
        missing: Weight of a sample that the file does not know. Default: it is an error.

    Raises:
        UserError: A file that does not fit the data set, or an argument out of range.
    """

    def __init__(self, dataset: Any, difficulty: str | Path | None = None, rule: Mapping[str, Any] | None = None,
                 length: str | int = 'weights', shuffle: bool = True, seed: int | None = None,
                 missing: float | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = bool(shuffle)
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self.ids = sample_ids(dataset)
        self.rule = build_rule(rule)
        self.fixed = length != 'weights'
        if self.fixed and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            raise UserError(f"{WHERE}.length: expected 'weights' or a number of draws of at least 1, found {length!r}")
        if missing is not None and not _is_weight(missing):
            raise UserError(f'{WHERE}.missing: expected a weight of at least 0, found {missing!r}')
        if difficulty is None:
            if not self.fixed:
                raise UserError(f'{WHERE}.difficulty: expected a file (tools/landcover/score_samples.py CONFIG '
                                f'CHECKPOINT --out FILE), found none; without one, {WHERE}.length has to be a number '
                                'of draws, found "weights", and a DifficultyHook fills the weights')
            weights = dict.fromkeys(self.ids, 1.0)
        else:
            weights = self._read(difficulty, missing)
        self.weights = self._vector(weights, 'the difficulty' if difficulty is None else str(difficulty))
        self._later: list[tuple[int, tuple[float, ...]]] = []  # (first pass, weights), ascending
        total = length if self.fixed else max(math.floor(math.fsum(self.weights) + 0.5), 1)
        self.num_samples = math.ceil(total / self.world_size)
        self.total_size = self.num_samples * self.world_size

    def __len__(self) -> int:
        """Return the draws of a pass on this rank."""
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that the next iterator makes."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)  # as MMEngine's DefaultSampler
        number = len(self.ids)
        order = torch.randperm(number, generator=generator).tolist() if self.shuffle else list(range(number))
        offset = int(torch.randint(1 << 62, (), generator=generator))
        drawn = comb(self.weights_of(self.epoch), order, self.total_size, offset)
        if self.shuffle:
            drawn = [drawn[place] for place in torch.randperm(len(drawn), generator=generator).tolist()]
        return iter(drawn[self.rank::self.world_size])

    def weights_of(self, number: int) -> tuple[float, ...]:
        """Return the weights, in the data set's order, that hold in a pass."""
        weights = self.weights
        for first, later in self._later:
            if first <= number:
                weights = later
        return weights

    def schedule(self, changes: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Set what the weights are from which pass on; before the first change they are those of the file.

        Args:
            changes: (number of the first pass, weights by sample id), in ascending order.

        Raises:
            UserError: The length of a pass follows the weights, or the weights are not those of the data set.
        """
        if not self.fixed:
            raise UserError(f'{WHERE}.length: expected a number of draws, found {"weights"!r}: weights that change '
                            'during a training would change the length of an epoch')
        self._later = [(first, self._vector(weights, 'the new weights')) for first, weights in changes]

    def _read(self, difficulty: str | Path, missing: float | None) -> dict[str, float]:
        path = Path(difficulty)
        if not path.is_file():
            raise UserError(f'{WHERE}.difficulty {difficulty}: no such file')
        found = read_weights(path) if path.suffix == '.txt' else self.rule(read_difficulty(path))
        unknown = [name for name in self.ids if name not in found]
        if unknown and missing is None:
            raise UserError(f'{WHERE}.difficulty {difficulty}: it has no entry for {len(unknown)} of the '
                            f'{len(self.ids)} samples of the data set ({named(unknown)}); score them with '
                            f'tools/landcover/score_samples.py, or give them a weight with {WHERE}.missing')
        own = set(self.ids)
        foreign = [name for name in found if name not in own]
        if foreign:
            print_log(f'{difficulty}: {len(foreign)} of its {len(found)} entries are of samples that the data set does '
                      f'not have ({named(foreign)})', 'current', logging.WARNING)
        return {name: found.get(name, missing) for name in self.ids}

    def _vector(self, weights: Mapping[str, float], where: str) -> tuple[float, ...]:
        unknown = [name for name in self.ids if name not in weights]
        if unknown:
            raise UserError(f'{WHERE}: {where}: no weight of {len(unknown)} samples: {named(unknown)}')
        for name in self.ids:
            if not _is_weight(weights[name]):
                raise UserError(f'{WHERE}: {where}: sample {name}: expected a weight of at least 0, found '
                                f'{weights[name]!r}')
        vector = tuple(float(weights[name]) for name in self.ids)
        if not any(vector):
            raise UserError(f'{WHERE}: {where}: no sample has a weight above 0')
        return vector


def comb(weights: Sequence[float], order: Sequence[int], number: int, offset: int) -> list[int]:
    """Draw by systematic resampling (low-variance resampling; Kitagawa 1996, Carpenter et al. 1999).

    Args:
        weights: Each of at least 0, with a sum above 0.
        order: The indices of the weights in the order in which they are laid end to end.
        number: Draws.
        offset: Uniform in 0..2**62 - 1: where the comb's first tooth stands, as a share of the distance of two teeth.

    Returns:
        ``number`` indices in that order. Index i occurs floor or ceil of ``number * weights[i] / sum`` times.
    """
    # Binary fractions are integers over one power of two: nothing is rounded, floor and ceiling hold to the last bit.
    ratios = [float(weight).as_integer_ratio() for weight in weights]
    scale = max(denominator for _, denominator in ratios)
    lengths = [numerator * (scale // denominator) for numerator, denominator in ratios]
    total = sum(lengths)
    first = (offset * total) >> 62  # of the comb, in units of 1 / number of a length: 0 <= first < total
    drawn: list[int] = []
    end = 0
    for index in order:
        end += lengths[index]
        teeth = -((first - end * number) // total)  # those before the end of this weight: k * total + first < end * n
        drawn.extend([index] * (teeth - len(drawn)))
    return drawn


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
