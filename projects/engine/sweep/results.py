"""The table of a sweep's trials, best first."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from projects.engine.files import write_text
from projects.engine.sweep.definition import Metric

HEADER = ('trial', 'status', 'best', 'at iteration', 'last', 'minutes')


def sorted_trials(trials: Sequence[Any], metric: Metric | None) -> list[Any]:
    """Return the trials, best metric first, those without one at the end."""
    sign = -1 if metric and metric.maximize else 1
    return sorted(trials, key=lambda trial: (trial.best is None, sign * (trial.best or 0.0), trial.number))


def result_rows(trials: Sequence[Any], metric: Metric | None) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows: number, status, metric, minutes and each parameter."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.parameters))
    rows = [[trial.number, trial.status, trial.best, trial.best_at, trial.last, round(trial.seconds / 60, 1),
             *(trial.parameters.get(name) for name in names)] for trial in sorted_trials(trials, metric)]
    return [*HEADER, *names], rows


def write_results(trials: Sequence[Any], metric: Metric | None, work_dir: Path) -> None:
    """Write ``results.csv``."""
    header, rows = result_rows(trials, metric)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    write_text(work_dir / 'results.csv', buffer.getvalue())


def results_table(trials: Sequence[Any], metric: Metric | None) -> str:
    """Return the same for a terminal; a parameter by the last part of its path where that tells it apart."""
    header, rows = result_rows(trials, metric)
    names = header[len(HEADER):]
    short = [name.rpartition('.')[2] for name in names]
    header = [*HEADER, *(part if short.count(part) == 1 else name for part, name in zip(short, names))]
    if metric:
        header[2] = metric.name

    def cell(value: Any) -> str:
        return '–' if value is None else f'{value:.4g}' if isinstance(value, float) else str(value)

    columns = list(zip(header, *([cell(value) for value in row] for row in rows)))
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*([value.rjust(width) for value in column] for column, width in zip(columns, widths)))
    return '\n'.join('  '.join(line) for line in lines)
