"""Rows of numbers over iterations: how a logged line is named, and what a work directory says was logged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from projects.engine.scalars import Key, read_scalars

CLOCKS = ('iter', 'epoch')  # kept as they are: what others are drawn against


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
        return 'val', int(row['iter'])
    return None


def logged_rows(work_dir: str | Path) -> dict[Key, dict[str, Any]]:
    """Return every row that a run has logged, under tracked names and in the order of iterations.

    Of an iteration that a resume repeated, the later start's row: :func:`projects.engine.scalars.read_scalars`.
    """
    rows = {}
    for row in read_scalars(work_dir):
        if row.kind == 'train':
            clocks = {'iter': row.iteration} if row.epoch is None else {'iter': row.iteration, 'epoch': row.epoch}
            rows[row.key] = training_row({**row.values, **clocks})
        else:
            rows[row.key] = validation_row(row.values, row.iteration, row.epoch)
    return rows
