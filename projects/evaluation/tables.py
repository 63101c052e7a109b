"""Rows of values as CSV, Markdown and plain text, and plain values for JSON."""

import csv
import io
import math
import re
from collections.abc import Sequence
from typing import Any


def csv_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as CSV (RFC 4180, ``\\n`` line ends); NaN and None are empty fields."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(header)
    writer.writerows([['' if _missing(value) else value for value in row] for row in rows])
    return buffer.getvalue()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a Markdown table: columns of numbers to the right, floats with 4 decimals."""

    def cell(value: Any) -> str:
        if _missing(value):
            return '–'
        text = f'{value:.4f}' if isinstance(value, float) else str(value)
        return text.replace('\\', '\\\\').replace('|', '\\|').replace('\n', ' ')

    columns = zip(*rows) if rows else [()] * len(header)
    sides = ['--:' if all(map(_numeric, column)) and not all(map(_missing, column)) else ':--' for column in columns]
    lines = [header, sides, *[[cell(value) for value in row] for row in rows]]
    return ''.join('| ' + ' | '.join(line) + ' |\n' for line in lines)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned plain text without a final newline."""
    columns = list(zip(header, *rows))
    widths = [max(len(cell) for cell in column) for column in columns]

    def line(cells: Sequence[str]) -> str:
        return '  '.join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:]))]).rstrip()

    return '\n'.join([line(header), '  '.join('-' * width for width in widths), *(line(row) for row in rows)])


def percent(share: float, decimals: int = 1, unit: str = ' %') -> str:
    """Write a share 0..1 in percent; a dash for NaN."""
    return '–' if math.isnan(share) else f'{100 * share:.{decimals}f}{unit}'


def plain(value: Any) -> Any:
    """Return ``value`` with every NaN and infinity replaced by None, since JSON knows neither."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _numeric(value: Any) -> bool:
    """Say whether a cell is a number, a percentage, or missing."""
    if isinstance(value, str):
        return re.fullmatch(r'–|[+−-]?[\d.,]+( %)?', value) is not None
    return _missing(value) or (isinstance(value, int | float) and not isinstance(value, bool))


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
