"""The files of one evaluation: written by the hook and by ``tools/score_masks.py``, read by the report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import write_bytes, write_json, write_text
from projects.evaluation.plots import plot_confusion, plot_reliability, png_bytes
from projects.evaluation.result import Evaluation
from projects.evaluation.tables import csv_table, markdown_table, plain


def write_evaluation(evaluation: Evaluation, folder: str | Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write an evaluation's tables, then :func:`draw_evaluation`'s pictures, replacing those of an earlier one.

    ``scores.json`` (all scores as fractions, the counts, and ``facts``), ``samples.json`` (each sample's mIoU, worst
    first), ``per_class.csv``, ``per_class.md`` and ``per_class.json``.
    """
    folder = Path(folder)
    rows = evaluation.scores.per_class()
    header = list(rows[0])
    cells = [list(row.values()) for row in rows]
    write_json(folder / 'scores.json', plain({**(facts or {}), **evaluation.to_dict()}))
    write_json(folder / 'samples.json', plain(evaluation.samples))
    write_json(folder / 'per_class.json', plain(rows))
    write_text(folder / 'per_class.csv', csv_table(header, cells))
    write_text(folder / 'per_class.md', markdown_table(header, cells))
    draw_evaluation(evaluation, folder)


def draw_evaluation(evaluation: Evaluation, folder: str | Path) -> None:
    """Write ``confusion_matrix.png`` and, where confidences were seen, ``reliability.png``."""
    folder = Path(folder)
    counted = evaluation.nouns[1]
    matrix = plot_confusion(evaluation.confusion, evaluation.classes, missed=evaluation.missed, counted=counted)
    write_bytes(folder / 'confusion_matrix.png', png_bytes(matrix))
    reliability = folder / 'reliability.png'
    if evaluation.calibration is not None and evaluation.calibration.count.sum():
        write_bytes(reliability, png_bytes(plot_reliability(evaluation.calibration, counted=counted)))
    else:
        reliability.unlink(missing_ok=True)  # an older one would belong to other scores


def read_evaluation(folder: str | Path) -> tuple[Evaluation, dict[str, Any]] | None:
    """Read what :func:`write_evaluation` wrote: the evaluation and the facts; ``None`` where there is none."""
    folder = Path(folder)
    if not (folder / 'scores.json').is_file():
        return None
    value = read_json(folder / 'scores.json')
    samples = read_json(folder / 'samples.json') if (folder / 'samples.json').is_file() else []
    for row in samples:
        for key in ('mIoU', 'OA'):
            row[key] = float('nan') if row.get(key) is None else row[key]
    try:
        evaluation = Evaluation.from_dict(value, samples)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{folder / "scores.json"}: not an evaluation ({type(error).__name__}: {error})') from error
    own = evaluation.to_dict()
    return evaluation, {key: item for key, item in value.items() if key not in own}


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: it is unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not readable as JSON ({error})') from error
