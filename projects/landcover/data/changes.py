"""Changes of a prepared data set that a kill at any moment leaves undone or finishes: a redo log in one hidden folder.

A change first puts every new file into ``ROOT/.change/new`` and then, as the last thing, the list of its steps into
``ROOT/.change/plan.json``. Until that file is there nothing has happened and :func:`recover` throws the folder away.
From then on the change has happened: :func:`recover` carries out the steps that are missing, each of which can be
carried out again without harm.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from projects.engine.errors import UserError
from projects.engine.failpoints import fail_point
from projects.engine.files import write_bytes, write_json
from projects.landcover.data.manifest import MANIFEST_NAME, read_manifest

FOLDER = '.change'
PLAN = 'plan.json'


class Change:
    """The steps of one change, in the order in which they will be carried out; nothing happens before :meth:`commit`.

    All paths are relative to the root, with forward slashes.

    Args:
        root: Root folder of the data set; locked by the caller (:func:`changing`).
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.steps: list[list[str]] = []

    def write(self, path: str, data: bytes) -> None:
        """Give a file new content, or make it."""
        staged = f'{FOLDER}/new/{len(self.steps)}-{PurePosixPath(path).name}'
        write_bytes(self.root / staged, data)
        self.steps.append(['move', staged, path])

    def write_json(self, path: str, value: Any) -> None:
        """Give a file new content, or make it, as :func:`projects.engine.files.write_json` would."""
        staged = f'{FOLDER}/new/{len(self.steps)}-{PurePosixPath(path).name}'
        write_json(self.root / staged, value)
        self.steps.append(['move', staged, path])

    def move(self, source: str, target: str, link: str | None = None) -> None:
        """Rename a file.

        Args:
            source, target: The two names.
            link: Where the file is a symbolic link: what the new one says. A relative link means another file from
                another folder, see :func:`moved_link`.
        """
        self.steps.append(['move', source, target] if link is None else ['link', source, target, link])

    def remove(self, path: str) -> None:
        """Remove a file."""
        self.steps.append(['remove', path])

    def remove_folder(self, path: str) -> None:
        """Remove a folder where it is empty by then."""
        self.steps.append(['rmdir', path])

    def commit(self) -> None:
        """Carry the steps out."""
        write_json(self.root / FOLDER / PLAN, self.steps)
        _carry_out(self.root, self.steps)


@contextmanager
def changing(root: str | Path) -> Iterator[Change]:
    """Hold a data set, finish what a killed change left, and yield a new :class:`Change` to fill and commit.

    What was staged and not committed is thrown away at the end.

    Raises:
        UserError: another process changes the data set.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f'{root}: no such folder')
    with _locked(root):
        recover(root)
        try:
            yield Change(root)
        finally:
            if not is_pending(root):
                shutil.rmtree(root / FOLDER, ignore_errors=True)


def recover(root: str | Path) -> bool:
    """Finish or throw away a change that was interrupted; return whether there was one to finish.

    Raises:
        UserError: a file of the change is gone.
    """
    root = Path(root)
    pending = is_pending(root)
    if pending:
        _carry_out(root, json.loads((root / FOLDER / PLAN).read_text(encoding='utf-8')))
    shutil.rmtree(root / FOLDER, ignore_errors=True)
    return pending


def is_pending(root: str | Path) -> bool:
    """Say whether a change was interrupted after it began to happen (or is happening now)."""
    return (Path(root) / FOLDER / PLAN).is_file()


def check_settled(root: str | Path) -> None:
    """Raise a :class:`UserError` where a change is under way or was interrupted."""
    if is_pending(root):
        raise UserError(f'{root}: a change of this data set is under way or was interrupted; '
                        'tools/landcover/correct.py recover finishes it')


def moved_link(root: str | Path, source: str, target: str) -> str | None:
    """Return what a symbolic link `source` has to say when it is moved to `target`; None for an ordinary file."""
    path = Path(root) / source
    if not path.is_symlink():
        return None
    text = os.readlink(path)
    if os.path.isabs(text):
        return text
    goal = os.path.normpath(os.path.join(os.path.dirname(source), text))  # as seen from the root
    return os.path.relpath(goal, os.path.dirname(target))


def write_manifest(change: Change, manifest: dict[str, Any], kept: str) -> None:
    """Add a manifest to a change: the bytes of a kept earlier one where that says the same, else written anew.

    Args:
        change: The change.
        manifest: What it has to say.
        kept: Path of the kept one, from the root.
    """
    path = change.root / kept
    if path.is_file() and read_manifest(path.parent) == manifest:
        change.write(MANIFEST_NAME, path.read_bytes())
    else:
        change.write_json(MANIFEST_NAME, manifest)


def _carry_out(root: Path, steps: list[list[str]]) -> None:
    folders = set()
    for kind, *arguments in steps:
        path = root / arguments[-1] if kind in ('remove', 'rmdir') else root / arguments[1]
        fail_point('before_step', path)
        if kind == 'move':
            _move(root / arguments[0], path)
        elif kind == 'link':
            _relink(root / arguments[0], path, arguments[2])
        elif kind == 'remove':
            path.unlink(missing_ok=True)
        else:
            try:
                path.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise
        folders |= {(root / name).parent for name in arguments[:2]}
    for folder in folders:
        if folder.is_dir():
            _flush(folder)
    fail_point('before_end', root / FOLDER / PLAN)
    (root / FOLDER / PLAN).unlink()
    fail_point('after_end', root / FOLDER / PLAN)
    shutil.rmtree(root / FOLDER, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    if os.path.lexists(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    elif not os.path.lexists(target):
        raise UserError(f'{source}: gone, and {target} is not there either: the interrupted change cannot be finished')


def _relink(source: Path, target: Path, text: str) -> None:
    if os.path.lexists(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.symlink(text, target)
        source.unlink()


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)  # without it a power cut can undo a rename
    finally:
        os.close(handle)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold a folder against other processes; the lock goes with the process and leaves no file behind."""
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f'{root}: another process is changing this data set') from error
        except OSError:
            pass  # a file system without locks on folders (some NFS): see to it that nobody else changes it
        yield
    finally:
        os.close(handle)
