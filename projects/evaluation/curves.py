"""Training curves from MMEngine's ``scalars.json``, a run's resumes joined.

Each start of a run makes ``work_dir/<timestamp>/vis_data/scalars.json`` with one JSON object a line: training lines
hold ``loss``, ``lr``, ``iter`` and more, validation lines the scores; both hold ``step``.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TIMESTAMP = re.compile(r'\d{8}_\d{6}$')


@dataclass
class Curves:
    """Named series of (iteration, value), iterations ascending."""

    train: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    validation: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)  # first logged iteration of each start after the first

    def __bool__(self) -> bool:
        return bool(self.train or self.validation)


def scalar_files(work_dir: str | Path) -> list[Path]:
    """Return the ``scalars.json`` of every start of a run, oldest first."""
    folders = sorted(folder for folder in Path(work_dir).iterdir() if TIMESTAMP.match(folder.name))
    return [path for folder in folders if (path := folder / 'vis_data' / 'scalars.json').is_file()]


def read_curves(work_dir: str | Path) -> Curves:
    """Read and join the scalars of a work directory.

    A resumed run repeats iterations: what an earlier start logged at or after the first iteration of a later start is
    dropped. Steps of validation that count epochs are turned into iterations. A line cut short by a crash is skipped.
    """
    curves = Curves()
    train: list[tuple[int, dict]] = []
    validation: list[tuple[int, dict]] = []
    for path in scalar_files(work_dir):
        new_train, new_validation = _read_one(path, _epoch_ends(train))
        if not new_train and not new_validation:
            continue
        first = min(step for step, _ in [*new_train, *new_validation])
        if train or validation:
            if not new_train:  # a lone validation (`--resume` with nothing left to train) repeats no iteration
                validation = [row for row in validation if row[0] < first]
            else:
                train = [row for row in train if row[0] < first]
                validation = [row for row in validation if row[0] < first]
                curves.starts.append(first)
        train += new_train
        validation += new_validation
    for rows, series in ((train, curves.train), (validation, curves.validation)):
        for step, values in sorted(rows, key=lambda row: row[0]):
            for name, value in values.items():
                series.setdefault(name, []).append((step, value))
    return curves


def _epoch_ends(train: list[tuple[int, dict]]) -> dict[int, int]:
    """Map each epoch to its last logged iteration."""
    ends: dict[int, int] = {}
    for step, values in train:
        if 'epoch' in values:
            epoch = int(values['epoch'])
            ends[epoch] = max(ends.get(epoch, 0), step)
    return ends


def _read_one(path: Path, epoch_ends: dict[int, int]) -> tuple[list[tuple[int, dict]], list[tuple[int, dict]]]:
    train: list[tuple[int, dict]] = []
    validation: list[tuple[int, dict]] = []
    for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if not isinstance(line, Mapping) or not isinstance(line.get('step'), int):
            continue
        values = {
            name: float(value) for name, value in line.items()
            if name not in ('step', 'iter') and isinstance(value, int | float) and not isinstance(value, bool)
        }
        if 'iter' in line:
            train.append((int(line['step']), values))
        else:
            validation.append((int(line['step']), values))
    # LoggerHook gives validation the epoch as its step when it logs by epoch (the training lines then hold `epoch`).
    ends = {**epoch_ends, **_epoch_ends(train)}
    if ends:
        validation = [(ends.get(step, step), values) for step, values in validation]
    return train, validation


def finite(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the points whose value is finite."""
    return [point for point in points if math.isfinite(point[1])]
