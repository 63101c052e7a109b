"""Rows of numbers over iterations: how a logged line is named, and what a work directory says was logged.

``scalars.json`` is the truth. Each start of a run makes ``WORK_DIR/<timestamp>/vis_data/scalars.json`` with one JSON
object a line; training lines hold ``iter``, validation lines do not.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMESTAMP = re.compile(r'\d{8}_\d{6}$')
CLOCKS = ('iter', 'epoch')  # kept as they are: what others are drawn against
Key = tuple[str, int]  # ('train' or 'val', iteration); of a run that counts epochs ('val/epoch', epoch)


def training_row(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training line under tracked names: ``train/<name>``, with ``iter`` and ``epoch`` as they are."""
    return {name if name in CLOCKS else f'train/{name}': value for name, value in line.items() if name != 'step'}


def validation_row(line: Mapping[str, Any], iteration: int, epoch: int | None = None) -> dict[str, Any]:
    """Return a validation line under tracked names: ``val/<name>``, with the iteration it was made at."""
    row: dict[str, Any] = {'iter': iteration} if epoch is None else {'iter': iteration, 'epoch': epoch}
    return row | {f'val/{name}': value for name, value in line.items() if name not in ('step', *CLOCKS)}


def key_of(row: Mapping[str, Any]) -> Key | None:
    """Return what identifies a row; None for one that is neither training nor validation (a picture)."""
    if not isinstance(row.get('iter'), int | float):
        return None
    if any(name.startswith('train/') for name in row):
        return 'train', int(row['iter'])
    if any(name.startswith('val/') and not isinstance(value, Mapping) for name, value in row.items()):
        return ('val/epoch', int(row['epoch'])) if 'epoch' in row else ('val', int(row['iter']))
    return None


def scalar_files(work_dir: str | Path) -> list[Path]:
    """Return the ``scalars.json`` of every start of a run, oldest first."""
    folders = sorted(folder for folder in Path(work_dir).iterdir() if TIMESTAMP.match(folder.name))
    return [path for folder in folders if (path := folder / 'vis_data' / 'scalars.json').is_file()]


def logged_rows(work_dir: str | Path) -> dict[Key, dict[str, Any]]:
    """Return every row that a run has logged, under tracked names and in the order of iterations.

    Of an iteration that a resume repeated, the later start's row. A line cut short by a crash is skipped. Where a run
    counts epochs, a validation is at the last logged iteration of its epoch.
    """
    rows: dict[Key, dict[str, Any]] = {}
    epoch_ends: dict[int, int] = {}
    for path in scalar_files(work_dir):
        for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if not isinstance(line, dict) or not isinstance(line.get('step'), int):
                continue
            if 'iter' in line:
                row = training_row(line)
                if 'epoch' in line:
                    epoch_ends[int(line['epoch'])] = int(line['iter'])
            elif epoch_ends:
                row = validation_row(line, epoch_ends.get(line['step'], line['step']), line['step'])
            else:
                row = validation_row(line, line['step'])
            if (key := key_of(row)) is not None:
                rows[key] = row
    return dict(sorted(rows.items(), key=lambda item: (item[1]['iter'], item[0][0])))
