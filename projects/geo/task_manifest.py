"""Which of many independent tasks are done: one small record each, so that a rerun does what is missing or changed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import remove_leftovers, write_json

DIGEST, OUTPUTS = 'digest', 'outputs'


def digest_of(value: Any) -> str:
    """Return a SHA-256 of plain data (mappings in any order): input identities, settings, the version of the code."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def file_identity(path: str | Path) -> dict[str, Any]:
    """Return what tells a file from a changed one without reading it: name, size, time of its last change."""
    path = Path(path)
    status = path.stat()
    return {'name': path.name, 'size': status.st_size, 'changed': status.st_mtime_ns}


class TaskManifest:
    """Records ``FOLDER/NAME.json``, written when a task's outputs are complete.

    Args:
        folder: Of the records. Several processes may write records of different tasks at once.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        """Return where a task's record lies."""
        return self.folder / f'{name}.json'

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a task's record, or None where there is none that can be read."""
        try:
            record = json.loads(self.path(name).read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def done(self, name: str, digest: str) -> bool:
        """Say whether a task was completed from the same digest, and its outputs are there in their full size."""
        record = self.read(name)
        return (record is not None and record.get(DIGEST) == digest
                and all(_size(self.folder / output) == size for output, size in record.get(OUTPUTS, {}).items()))

    def write(self, name: str, digest: str, record: Mapping[str, Any] | None = None,
              outputs: tuple[str | Path, ...] = ()) -> None:
        """Record a task as done.

        Args:
            name: Of the task, a file name.
            digest: Of what it was made from, see :func:`digest_of`.
            record: More to keep, plain data.
            outputs: Files that it wrote, relative to the manifest's folder or absolute.
        """
        sizes = {str(output): (self.folder / output).stat().st_size for output in outputs}
        write_json(self.path(name), {**(record or {}), DIGEST: digest, OUTPUTS: sizes})

    def forget(self, name: str) -> None:
        """Remove a task's record, before its outputs are written anew."""
        self.path(name).unlink(missing_ok=True)

    def pending(self, digests: Mapping[str, str]) -> list[str]:
        """Return the names that are not done, in order.

        Args:
            digests: Name to digest.

        Raises:
            UserError: The folder is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f'{self.folder}: expected a folder, found a file')
        return [name for name, digest in digests.items() if not self.done(name, digest)]

    def remove_leftovers(self) -> None:
        """Remove what killed writers left in the folder. Only while nobody writes to it."""
        remove_leftovers(self.folder)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
