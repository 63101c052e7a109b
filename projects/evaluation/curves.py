"""Training curves from MMEngine's ``scalars.json``, a run's resumes joined."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from projects.engine.scalars import TIMESTAMP, read_scalars

__all__ = ['TIMESTAMP', 'Curves', 'finite', 'read_curves']


@dataclass
class Curves:
    """Named series of (iteration, value), iterations ascending."""

    train: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    validation: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)  # first logged iteration of each start after the first

    def __bool__(self) -> bool:
        return bool(self.train or self.validation)


def read_curves(work_dir: str | Path) -> Curves:
    """Read the scalars of a work directory as series; ``epoch`` is one of the training's where the run counts them.

    :func:`projects.engine.scalars.read_scalars` says what a resume that repeats iterations replaces.
    """
    curves = Curves()
    last = None
    for row in read_scalars(work_dir):
        if row.kind == 'train':
            if last is not None and row.start > last:
                curves.starts.append(row.iteration)
            last = row.start
        values = row.values if row.epoch is None else {**row.values, 'epoch': row.epoch}
        series = curves.train if row.kind == 'train' else curves.validation
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                series.setdefault(name, []).append((row.iteration, float(value)))
    return curves


def finite(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points whose value is finite."""
    return [point for point in points if math.isfinite(point[1])]
