"""Runs beside each other: their order, which of them repeat one stage, and what their scores differ by."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from projects.evaluation.result import Evaluation
from projects.evaluation.workdir import Run

HEADLINE = 'mIoU'
SMALLER_IS_BETTER = ('ECE',)
# What repetitions of one experiment may differ in: its seed, and where it lies.
PRIVATE = re.compile(r'^\s*(work_dir|experiment_name|resume|launcher) = .*$|\bseed=\w+,?', re.MULTILINE)
PARENT = re.compile(r"^load_from = .*$|\b(?:teacher_)?checkpoint\s*=\s*(?:'[^'\n]*'|\"[^\"\n]*\")", re.MULTILINE)
# A test writes the config too, with what it has loaded: a checkpoint of the run itself.
OWN = re.compile(r"^load_from = '(?P<path>[^']*)/[^/']+'$(?=.*^work_dir = '(?P=path)'$)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Spread:
    """A score of one stage: one value for each of its runs."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for a single run."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass
class Stage:
    """One stage, or one variant: a run, or several that differ in the seed alone."""

    label: str
    runs: list[Run]

    def evaluations(self, split: str) -> list[Evaluation]:
        return [run.evaluations[split][0] for run in self.runs if split in run.evaluations]

    def spread(self, split: str, score: str) -> Spread | None:
        """Return a score of all runs that have it; None where none has. Of runs with one seed the first counts."""
        found: dict[Any, float] = {}
        for number, run in enumerate(self.runs):
            value = run.evaluations[split][0].summary().get(score, math.nan) if split in run.evaluations else math.nan
            if not math.isnan(value):
                found.setdefault(number if run.seed is None else str(run.seed), value)
        values = tuple(found.values())
        return Spread(values) if values else None

    def confusion(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the summed confusion matrix ``(C, C)`` and the missed pixels ``(C,)`` of the stage's runs."""
        found = self.evaluations(split)
        return (sum(one.confusion for one in found),
                sum(one.missed if one.missed is not None else np.zeros(len(one.classes), np.int64) for one in found))

    def class_iou(self, split: str) -> np.ndarray:
        """Return the IoU of each class ``(C,)``, the mean over the runs; NaN where a class does not occur."""
        rows = np.array([[row['IoU'] for row in one.scores.per_class()] for one in self.evaluations(split)], float)
        known = ~np.isnan(rows)
        return np.divide(np.where(known, rows, 0).sum(0), known.sum(0), where=known.any(0),
                         out=np.full(rows.shape[1], math.nan))

    def samples(self, split: str) -> dict[str, float]:
        """Return each sample's mIoU, the mean over the runs."""
        values: dict[str, list[float]] = {}
        for one in self.evaluations(split):
            for row in one.samples:
                if not math.isnan(row['mIoU']):
                    values.setdefault(str(row['sample_id']), []).append(row['mIoU'])
        return {name: mean(some) for name, some in values.items()}


@dataclass
class Comparison:
    """Stages in their order, and the split on which they can be compared."""

    stages: list[Stage]
    chain: bool  # one comes from another; else they are variants
    by_lineage: bool  # the order was told by lineage, and is not the one given
    split: str | None  # None: no run was evaluated
    obstacle: str | None  # why scores must not be subtracted; None when they may

    @property
    def scored(self) -> list[Stage]:
        """The stages that have been evaluated on the split."""
        return [stage for stage in self.stages if self.split and stage.evaluations(self.split)]

    @property
    def noun(self) -> str:
        return 'stage' if self.chain else 'variant'

    def best(self, score: str = HEADLINE) -> Stage | None:
        """Return the stage with the best mean of a score; None where fewer than two can be compared."""
        found = [(spread.mean, stage) for stage in self.scored if (spread := stage.spread(self.split, score))]
        if len(found) < 2 or self.obstacle:
            return None
        choose = min if score in SMALLER_IS_BETTER else max
        return choose(found, key=lambda pair: pair[0])[1]


def compare(runs: Sequence[Run]) -> Comparison:
    """Order runs by their lineage where it tells, join repetitions, and find what they can be compared on."""
    ordered = order_by_lineage(runs)
    stages: dict[Any, list[Run]] = {}
    for run in ordered:
        stages.setdefault(_recipe(run), []).append(run)
    groups = list(stages.values())
    found = [Stage(label, group) for label, group in zip(_labels(groups), groups)]
    split = _common_split(ordered)
    return Comparison(found, _is_chain(found), ordered != list(runs), split, _obstacle(found, split) if split else None)


def order_by_lineage(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with every parent before its children; else in the order given."""
    left, ordered = list(runs), []
    while left:
        ids = {run.lineage.get('run_id') for run in left if run.lineage}
        free = next((run for run in left if not (ancestors(run.lineage) & ids)), left[0])
        left.remove(free)
        ordered.append(free)
    return ordered


def ancestors(lineage: dict[str, Any] | None) -> set[str]:
    """Return the run ids of all parents, and theirs."""
    found: set[str] = set()
    for parent in (lineage or {}).get('parents') or []:
        inner = parent.get('lineage')
        if inner:
            found |= {inner.get('run_id')} | ancestors(inner)
    return found - {None, (lineage or {}).get('run_id')}


def _is_chain(stages: Sequence[Stage]) -> bool:
    """Say whether lineage, or names of different stages, make a chain."""
    runs = [run for stage in stages for run in stage.runs]
    ids = {run.lineage.get('run_id') for run in runs if run.lineage}
    if len(stages) == 1 or any(ancestors(run.lineage) & ids for run in runs):
        return True
    return len({stage.runs[0].stage for stage in stages}) == len(stages) and all(
        run.stage != run.name for run in runs)


def _recipe(run: Run) -> Any:
    """What repetitions share: name, config but for its seed, and the kind of their parents."""
    if run.config_text is None:
        return run.work_dir.resolve()
    text = PRIVATE.sub('', OWN.sub('', run.config_text))
    if run.lineage is None:
        return run.name, text
    parents = [(parent.get('role'), (parent.get('lineage') or {}).get('name') or parent.get('sha256'))
               for parent in run.lineage.get('parents') or []]
    return run.name, PARENT.sub('', text), tuple(sorted(map(str, parents)))


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Name the groups by stage, else by config, else by folder: whichever tells them apart."""
    for name in (lambda run: run.stage, lambda run: run.name, lambda run: run.work_dir.resolve().name):
        labels = [name(group[0]) for group in groups]
        if len(set(labels)) == len(labels):
            return labels
    return [f'{group[0].name} ({number})' for number, group in enumerate(groups, 1)]


def _common_split(runs: Sequence[Run]) -> str | None:
    """Return the split that most runs were evaluated on; the test before the validation before others."""
    names = dict.fromkeys(name for wanted in ('test', 'val', None) for run in runs for name in run.evaluations
                          if wanted in (None, name))
    return max(names, key=lambda name: sum(name in run.evaluations for run in runs), default=None)


def _obstacle(stages: Sequence[Stage], split: str) -> str | None:
    found = [(stage.label, one) for stage in stages for one in stage.evaluations(split)]
    if not found:
        return None
    first_label, first = found[0]
    for label, one in found[1:]:
        if one.classes != first.classes:
            return f'{label} has other classes than {first_label}'
        if {row['sample_id'] for row in one.samples} != {row['sample_id'] for row in first.samples} or not (
                np.array_equal(one.scores.truth_pixels, first.scores.truth_pixels)):
            return f'{label} was evaluated on other images or labels than {first_label}'
    return None


@dataclass(frozen=True)
class Noise:
    """Whether a difference stands out from what other seeds change."""

    difference: float
    error: float | None  # standard error of the difference; None where no stage was repeated
    runs: tuple[int, int]

    @property
    def clear(self) -> bool | None:
        """True beyond two standard errors; None where nothing tells."""
        return None if self.error is None else abs(self.difference) > 2 * self.error


def noise(one: Spread, other: Spread) -> Noise:
    """Compare two stages' scores. A stage that ran once is taken to scatter like the other."""
    known = [value for value in (one.deviation, other.deviation) if value is not None]
    error = None
    if known:
        a, b = (spread.deviation if spread.deviation is not None else known[0] for spread in (one, other))
        error = math.sqrt(a * a / len(one.values) + b * b / len(other.values))
    return Noise(one.mean - other.mean, error, (len(one.values), len(other.values)))


def better_and_worse(one: dict[str, float], other: dict[str, float]) -> tuple[int, int, int]:
    """Count the samples on which ``one`` is better and worse than ``other``, and all that both have."""
    shared = [name for name in one if name in other]
    return (sum(one[name] > other[name] for name in shared), sum(one[name] < other[name] for name in shared),
            len(shared))
