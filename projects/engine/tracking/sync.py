"""Repair offline runs from ``scalars.json``, which is the truth, and upload them.

A start that was killed leaves a ``.wandb`` file that ends within a record, and lacks the last rows. ``wandb sync``
sends such a file but gives it up at its end, and would send it again the next time. So the file is written anew with
its whole records, and the rows that no file holds are written as one more offline run of the same id.

Where a start spoke to the server itself, the server may lack rows of it that the files of later, offline starts do not
hold. These are sent first: once the later files are uploaded, the server could not tell that it lacks any.

A work directory that was moved (from the node that trained to the one that uploads) holds files of tables under their
old absolute paths, and ``wandb sync`` leaves out what it does not find. These paths are mended too.
"""

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from projects.engine.errors import UserError
from projects.engine.experiment import run_id as read_run_id
from projects.engine.files import write_bytes
from projects.engine.lineage_record import read_lineage
from projects.engine.lock import is_locked, locked
from projects.engine.tracking.history import logged_rows
from projects.engine.tracking.offline import Transcript, encode, records, transcripts
from projects.engine.tracking.reachable import choose_mode
from projects.engine.tracking.session import Names, Session, say


@dataclass(frozen=True)
class Repair:
    """What a work directory's tracked run lacked."""

    work_dir: Path
    run_id: str
    rows: int  # in scalars.json
    missing: int  # of these, in no file
    added: bool  # they are in one now; else the upload sends them to the server itself
    torn: int  # files that end within a record
    moved: int  # files that name others by paths which are no longer theirs
    waiting: tuple[Path, ...]  # folders to upload, oldest first; the repaired one among them
    online: bool  # a start spoke to the server itself, and may not have told it all

    def text(self, done: bool) -> str:
        """Return one line about it."""
        rows = 'missing' if not done else 'added' if self.added else 'in no file (--upload compares with the server)'
        found = [f'{self.missing} rows {rows}'] if self.missing else []
        found += [f'{self.torn} torn files {"mended" if done else "found"}'] if self.torn else []
        found += [f'{self.moved} moved files {"mended" if done else "found"}'] if self.moved else []
        return (f'{self.work_dir}: run {self.run_id}: {self.rows} rows logged, '
                f'{", ".join(found) or "all of them tracked"}; {len(self.waiting)} offline runs to upload')


def repair(work_dir: str | Path, dry_run: bool = False) -> Repair:
    """Make the tracked run of a work directory hold every row of its ``scalars.json``.

    The original of a file that is mended stays beside it as ``<name>.wandb.original``. What is whole is not touched; a
    second call does nothing.

    Args:
        work_dir: The work directory; no training may be running in it.
        dry_run: Only look; nothing is written, so that the directory may be read-only.

    Raises:
        UserError: There is no such directory or no run in it, or a training is running.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise UserError(f'{work_dir}: no such work directory')
    if importlib.util.find_spec('wandb') is None:
        raise UserError('wandb is not installed (requirements/tracking.txt)')
    if not (work_dir / 'run_id').is_file():
        raise UserError(f'{work_dir}: no run was trained here (it has no file run_id)')
    run_id = read_run_id(work_dir)
    if dry_run and is_locked(work_dir):
        raise UserError(f'{work_dir}: another process is training in it; wait for it')
    with contextlib.nullcontext() if dry_run else locked(work_dir):
        files = transcripts(work_dir, run_id)
        rows = logged_rows(work_dir)
        tracked = set().union(*(transcript.keys() for transcript in files))
        missing = [row for key, row in rows.items() if key not in tracked]
        moved = {transcript.path: found for transcript in files if (found := _moved(transcript, work_dir))}
        broken = [transcript for transcript in files if transcript.torn or transcript.path in moved]
        # The tail of a start that spoke to the server: it may have come there, though not to the disk.
        add = bool(missing) and not (files and not files[-1].offline)
        if not dry_run:
            for transcript in broken:
                _mend(transcript.path, moved.get(transcript.path, {}))
            if add:
                _add(work_dir, run_id, files)
                files = transcripts(work_dir, run_id)
    waiting = tuple(transcript.path.parent for transcript in files if transcript.offline and not transcript.synced)
    return Repair(
        work_dir, run_id, len(rows), len(missing), add, sum(transcript.torn for transcript in broken), len(moved),
        waiting, any(not transcript.offline for transcript in files))


def upload(repairs: Sequence[Repair]) -> None:
    """Send what online runs could not, then let Weights & Biases upload offline ones, oldest first.

    Raises:
        UserError: It could not; what it said stands above.
    """
    for repaired in repairs:
        if repaired.online:
            with locked(repaired.work_dir), _own_environment():
                _catch_up(repaired)
    folders = [folder for repaired in repairs for folder in repaired.waiting]
    if folders:
        # The program would be the path of this interpreter's folder.
        environment = dict(os.environ, WANDB_PROGRAM='tools/train.py', WANDB_ERROR_REPORTING='false')
        environment.pop('WANDB_MODE', None)
        done = subprocess.run(  # it leaves a log where it runs
            [sys.executable, '-m', 'wandb', 'sync', *(str(folder.absolute()) for folder in folders)],
            cwd=repairs[0].work_dir, env=environment, check=False)
        left = [folder for folder in folders if not list(folder.glob('*.wandb.synced'))]
        if done.returncode or left:
            raise UserError(f'wandb sync: ended with status {done.returncode}, {len(left)} of {len(folders)} runs are '
                            f'not uploaded' + (f': {left[0]}' if left else ''))


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Undo what a session puts into the environment: it would decide how and where the next one works."""
    names = ('WANDB_MODE', 'WANDB_DATA_DIR')
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _catch_up(repaired: Repair) -> None:
    """Send the rows that the server does not know; it knows where it stopped."""
    files = transcripts(repaired.work_dir, repaired.run_id)
    ended = [record.exit.exit_code for transcript in files for record in transcript.records
             if record.WhichOneof('record_type') == 'exit']
    session = Session(repaired.work_dir, _names(repaired.work_dir, repaired.run_id, files))
    mode, warning = choose_mode({**os.environ, 'WANDB_MODE': 'online'})
    if mode == 'online':
        session.start(mode='online')
    if session.run is None:
        raise UserError(f'{repaired.work_dir}: run {repaired.run_id} was not uploaded: {warning or "see above"}')
    session.finish(ended[-1] if ended else 1)


def _moved(transcript: Transcript, work_dir: Path) -> dict[str, str]:
    """Return where files now are which a transcript names by a path where nothing is, by that path."""
    found = {}
    for record in transcript.records:
        for entry in record.artifact.manifest.contents:
            below = entry.local_path.rpartition('/wandb/')[2]
            if below != entry.local_path and not Path(entry.local_path).exists():
                here = (work_dir / 'wandb' / below).absolute()
                if here.is_file():
                    found[entry.local_path] = str(here)
    return found


def _mend(path: Path, moved: dict[str, str]) -> None:
    from wandb.proto import wandb_internal_pb2

    bodies = []
    for body, _ in records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(body)
        entries = [entry for entry in record.artifact.manifest.contents if entry.local_path in moved]
        for entry in entries:
            entry.local_path = moved[entry.local_path]
        bodies.append(record.SerializeToString() if entries else body)
    original = path.with_name(path.name + '.original')
    if not original.exists():
        os.link(path, original)
    write_bytes(path, encode(bodies))


def _add(work_dir: Path, run_id: str, files: Sequence[Transcript]) -> None:
    say(f'{work_dir}: adding rows to run {run_id}', logging.INFO)
    session = Session(work_dir, _names(work_dir, run_id, files))
    lineage = None if files else read_lineage(work_dir)
    with _own_environment():
        session.start({'config': lineage['config'].get('text')} if lineage else None, mode='offline')  # and the missing
        if session.run is None:
            raise UserError(f'{work_dir}: no offline run could be written')
        session.finish()


def _names(work_dir: Path, run_id: str, files: Sequence[Transcript]) -> Names:
    known = next((transcript.run for transcript in files if transcript.run is not None), None)
    if known is not None:
        return Names(run_id, known.project, known.run_group or None, known.job_type or None,
                     known.display_name or None, tuple(known.tags))
    lineage = read_lineage(work_dir)  # it was trained with tracking switched off
    if lineage is None:
        raise UserError(f'{work_dir}: expected a tracked run or lineage.json, which tell what it is called')
    return Names(run_id, lineage['task'], lineage['chain'], lineage['stage'], lineage['name'],
                 tuple(lineage.get('tags') or ()))
