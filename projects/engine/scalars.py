"""What a run has logged: ``scalars.json`` of every start, which is the truth, joined to one series.

Each start of a run makes ``WORK_DIR/<timestamp>/vis_data/scalars.json`` with one JSON object a line. Training lines
hold ``iter`` (and ``epoch`` where the run counts epochs), validation lines do not. The ``step`` of both is the
iteration, in runs that count epochs too (``log_metric_by_epoch=False``).
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMESTAMP = re.compile(r'\d{8}_\d{6}$')
CLOCKS = ('iter', 'epoch', 'step')
Key = tuple[str, int]  # ('train' or 'val', iteration)


@dataclass(frozen=True)
class Row:
    """One logged line."""

    kind: str  # 'train' or 'val'
    iteration: int
    epoch: int | None
    start: int  # which start of the run logged it, from 0
    values: dict[str, Any]  # all but the clocks

    @property
    def key(self) -> Key:
        """What a repetition has in common with what it repeats."""
        return self.kind, self.iteration


@dataclass
class _File:
    rows: list[Row] = field(default_factory=list)  # of whole lines
    read: int = 0  # bytes of whole lines
    size: int = 0
    tail: Row | None = None  # a last line whose newline is missing


class Scalars:
    """The scalars of a work directory. A second call of :meth:`rows` parses only what has been added since.

    Args:
        work_dir: The run's work directory.
    """

    def __init__(self, work_dir: str | Path) -> None:
        self.work_dir = Path(work_dir)
        self._files: dict[Path, _File] = {}

    def rows(self) -> list[Row]:
        """Return all rows, by iteration, the training's before the validation's.

        A resume goes on at a checkpoint: what earlier starts logged from the first training iteration of a later
        start on is dropped. A validation that a resume repeats at its checkpoint replaces that one and nothing else.
        A line cut short by a crash is skipped.
        """
        joined: dict[Key, Row] = {}
        for start, path in enumerate(scalar_files(self.work_dir)):
            new = self._rows_of(path, start)
            first = min((row.iteration for row in new if row.kind == 'train'), default=None)
            if first is not None:
                joined = {key: row for key, row in joined.items() if row.iteration < first}
            joined.update((row.key, row) for row in new)
        return sorted(joined.values(), key=lambda row: (row.iteration, row.kind))

    def _rows_of(self, path: Path, start: int) -> list[Row]:
        known = self._files.get(path, _File())
        size = path.stat().st_size
        if size != known.size:
            if size < known.size:  # another file
                known = _File()
            with open(path, 'rb') as file:
                file.seek(known.read)
                content = file.read()
            whole, _, tail = content.rpartition(b'\n')
            rows = [_row(line, start) for line in whole.splitlines()]
            self._files[path] = known = _File(
                known.rows + [row for row in rows if row], known.read + len(content) - len(tail),
                known.read + len(content), _row(tail, start))
        return [*known.rows, known.tail] if known.tail else known.rows


def read_scalars(work_dir: str | Path) -> list[Row]:
    """Return what a run has logged, all its starts joined; see :meth:`Scalars.rows`."""
    return Scalars(work_dir).rows()


def scalar_files(work_dir: str | Path) -> list[Path]:
    """Return the ``scalars.json`` of every start of a run, oldest first."""
    folders = sorted(folder for folder in Path(work_dir).glob('*') if TIMESTAMP.match(folder.name))
    return [path for folder in folders if (path := folder / 'vis_data' / 'scalars.json').is_file()]


def _row(text: bytes, start: int) -> Row | None:
    try:
        line = json.loads(text.decode('utf-8', errors='replace'))
    except ValueError:
        return None
    if not isinstance(line, dict) or type(line.get('step')) is not int:
        return None
    epoch = line.get('epoch')
    return Row('train' if 'iter' in line else 'val', line['step'], epoch if isinstance(epoch, int) else None, start,
               {name: value for name, value in line.items() if name not in CLOCKS})
