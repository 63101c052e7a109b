"""What a person decided about suspected labels: a row a decision, appended at once, the last one of a sample counts."""

import csv
import io
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import write_json

DECISIONS_NAME = 'decisions.csv'
COLUMNS = ('sample_id', 'decision', 'note', 'time', 'order')
REQUIRED = ('sample_id', 'decision')
KEEP, SKIP, UNDONE = 'keep', 'skip', ''

logger = logging.getLogger('terrace')


@dataclass(frozen=True)
class Decision:
    """One row of a decisions file.

    Args:
        sample_id: Id of the sample in manifest and candidates.
        decision: ``keep`` the label; the letter of the model whose prediction replaces it (``a``, ``b``, …); ``skip``:
            not to be decided; empty: the decision before it was undone.
        note: What the person wrote; one line.
        time: When, ISO 8601 in UTC.
        order: The models' letters in the order in which the page showed them; empty if it was made by other means.
    """

    sample_id: str
    decision: str
    note: str = ''
    time: str = ''
    order: str = ''


def is_letter(decision: str) -> bool:
    """Say whether a decision names a model: one of ``a`` to ``z``."""
    return len(decision) == 1 and 'a' <= decision <= 'z'


def read_decisions(path: str | Path, letters: Sequence[str] | None = None) -> dict[str, Decision]:
    """Return the decision that counts for each sample id, the latest last; undone ones are left out.

    Args:
        path: CSV with a header, or JSON (suffix ``.json``): a list of objects with the same keys.
        letters: The models that there are; None takes every letter.

    Raises:
        UserError: as :func:`read_rows`.
    """
    return {key: row for key, row in last_rows(read_rows(path, letters)).items() if row.decision != UNDONE}


def last_rows(rows: Sequence[Decision]) -> dict[str, Decision]:
    """Return the last row of each sample id, undone ones too, in the order in which those rows were made."""
    last: dict[str, Decision] = {}
    for row in rows:
        last.pop(row.sample_id, None)
        last[row.sample_id] = row
    return last


def read_rows(path: str | Path, letters: Sequence[str] | None = None) -> list[Decision]:
    """Return every row of a decisions file in its order, see :func:`read_decisions`.

    A last line that a killed process left unfinished is ignored with a warning.

    Raises:
        UserError: the file is missing or unreadable, columns are unknown or missing, or a decision is unknown; names
            the row.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such decisions file (tools/landcover/review.py writes one)')
    if path.suffix.lower() == '.json':
        return [_decision(f'{path}: row {i}', row, letters) for i, row in enumerate(_json_rows(path), 1)]
    header, lines, torn = _csv_rows(path, letters)
    if torn:
        logger.warning(f'{path}: the last line is not complete (its writer was killed?): ignored')
    return [_decision(f'{path}: row {i}', dict(zip(header, line)), letters) for i, line in enumerate(lines, 1)]


def append_decision(path: str | Path, decision: Decision) -> None:
    """Append a row and flush it to disk; the file is made with its header where there is none.

    One process at a time may append. What a killed process left of a last line is cut off first. Line breaks in the
    note become spaces: one row is one line.

    Raises:
        UserError: as :func:`read_rows`, for what the file already holds.
    """
    path = Path(path)
    row = {key: ' '.join(value.split()) if key == 'note' else value for key, value in asdict(decision).items()}
    _decision(str(path), row, None)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == '.json':
        write_json(path, [*(_json_rows(path) if path.is_file() else []), row])
        return
    is_new = not path.is_file()
    header, _, torn = ([], [], '') if is_new else _csv_rows(path, None)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    if not header:
        header = list(COLUMNS)
        writer.writerow(header)
    writer.writerow([row[column] for column in header])
    with open(path, 'rb+' if not is_new else 'wb') as file:
        end = file.seek(0, os.SEEK_END)
        if torn:
            file.truncate(end - len(torn))
            end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b'\n':
                file.write(b'\n')
        file.write(text.getvalue().encode('utf-8'))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _csv_rows(path: Path, letters: Sequence[str] | None) -> tuple[list[str], list[list[str]], bytes]:
    """Return header, rows and the bytes of an unfinished last line (empty if there is none)."""
    data = path.read_bytes()
    end = data.rfind(b'\n') + 1
    try:
        header, rows = _parse(data[:end])
        tail = data[end:]
        if tail.strip():
            # A file edited by hand may lack the last line break: a last line with all its columns counts.
            try:
                whole_header, whole_rows = _parse(data)
                if whole_rows:
                    _decision('', dict(zip(whole_header, whole_rows[-1], strict=True)), letters)
                    header, rows, tail = whole_header, whole_rows, b''
            except (ValueError, UserError):
                pass
        else:
            tail = b''
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: expected UTF-8 text, found byte {data[error.start]:#04x} at {error.start}') from error
    except csv.Error as error:
        raise UserError(f'{path}: not readable as CSV: {error}') from error
    if header:
        unknown = [name for name in header if name not in COLUMNS]
        missing = [name for name in REQUIRED if name not in header]
        if unknown or missing or len(set(header)) != len(header):
            raise UserError(f'{path}: columns: expected {",".join(COLUMNS)}, found {",".join(header)}')
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise UserError(f'{path}: row {number}: expected {len(header)} columns, found {len(row)}')
    return header, rows, tail


def _parse(data: bytes) -> tuple[list[str], list[list[str]]]:
    rows = [row for row in csv.reader(io.StringIO(data.decode('utf-8-sig'), newline='')) if row]
    return (rows[0], rows[1:]) if rows else ([], [])


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f'{path}: expected a list of objects with the keys {", ".join(COLUMNS)}')
    return rows


def _decision(where: str, row: dict[str, Any], letters: Sequence[str] | None) -> Decision:
    unknown = [name for name in row if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in row]
    if unknown or missing:
        raise UserError(f'{where}: unknown keys {unknown}, missing keys {missing}; expected {", ".join(COLUMNS)}')
    wrong = [name for name, value in row.items() if not isinstance(value, str)]
    if wrong:
        raise UserError(f'{where}: {wrong[0]}: expected a text, found {row[wrong[0]]!r}')
    decision = Decision(**{**row, 'decision': row['decision'].strip()})
    if not decision.sample_id:
        raise UserError(f'{where}: sample_id is empty')
    known = decision.decision in (KEEP, SKIP, UNDONE) or (
        is_letter(decision.decision) if letters is None else decision.decision in letters)
    if not known:
        models = 'the letter of a model' if letters is None else ', '.join(letters)
        raise UserError(f'{where} ({decision.sample_id}): decision: expected {KEEP}, {models}, {SKIP} or nothing, '
                        f'found {decision.decision!r}')
    return decision
