"""A trial's metric, read from its ``scalars.json`` while it runs, and whether it may go on."""

import math
from collections.abc import Sequence
from pathlib import Path

from projects.engine.scalars import Scalars
from projects.engine.sweep.definition import Hyperband, Metric


def metric_history(scalars: Scalars | str | Path, metric: Metric) -> list[tuple[int, float]]:
    """Return (iteration, value) of every time the metric was logged; what a resume repeated counts once.

    ``val/mIoU`` is ``mIoU`` of the validation lines, as ``train/loss`` is of the training lines: the prefix is how the
    tracked run names them. Values that are not finite are left out.

    Args:
        scalars: Of the trial, kept by who asks again and again; or its work directory.
        metric: What to look for.
    """
    kind, slash, rest = metric.name.partition('/')
    tracked = bool(slash) and kind in ('val', 'train')
    name = rest if tracked else metric.name
    found: dict[int, float] = {}
    for row in (scalars if isinstance(scalars, Scalars) else Scalars(scalars)).rows():
        value = row.values.get(name)
        if tracked and row.kind != kind:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[row.iteration] = float(value)
    return sorted(found.items())


def best_of(history: Sequence[tuple[int, float]], metric: Metric) -> tuple[int, float] | None:
    """Return the best entry, the first of equal ones; None where there is none."""
    choose = max if metric.maximize else min
    return choose(history, key=lambda entry: entry[1], default=None)


def should_stop(own: Sequence[float], others: Sequence[Sequence[float]], hyperband: Hyperband,
                metric: Metric) -> str | None:
    """Say why a trial ends at the last bracket that it has reached; None when it goes on.

    At each bracket (so many logged values) the best ``1 / eta`` of all trials that have come as far go on. The trial
    itself is one of them, so that the first one is never stopped. ``strict`` rounds the number that goes on down
    (at least one), as the paper does; otherwise one more goes on, as W&B's own rule has it.

    Args:
        own: the values of the trial, oldest first.
        others: the values of all other trials.
    """
    reached = [bracket for bracket in hyperband.brackets if bracket <= len(own)]
    if not reached:
        return None
    bracket = reached[-1]
    values = sorted((history[bracket - 1] for history in (own, *others) if len(history) >= bracket),
                    reverse=metric.maximize)
    allowed = int(len(values) / hyperband.eta)
    threshold = values[max(allowed - 1, 0) if hyperband.strict else min(allowed, len(values) - 1)]
    value = own[bracket - 1]
    if not metric.better(threshold, value):
        return None
    return (f'{metric.name} {value:.4g} after {bracket} validation{"s" * (bracket > 1)}: not among the best of '
            f'{len(values)} (limit {threshold:.4g})')
