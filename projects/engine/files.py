"""The one way files and folders are written: whole, or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.failpoints import fail_point


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it over ``path``.

    The temporary name keeps the suffix of ``path`` (many writers choose the format by it). When the body raises,
    the temporary file is removed and ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f'.{path.stem}.tmp-', suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files
        fail_point('before_fsync', path)
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        fail_point('before_rename', path)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # without it a power cut can undo the rename
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; on success it takes the place of ``folder`` as a whole.

    What ``folder`` held is gone then: the caller makes sure that nothing in it is missed. When the body raises, the
    temporary folder is removed and ``folder`` stays as it was.
    """
    folder = Path(folder).resolve()  # a link stays one; '.' has a name
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.tmp-', dir=folder.parent))
    old = temporary.with_name(f'{temporary.name}-old')
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes private folders
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)  # it can only be read by setting it
    os.umask(umask)
    return umask


def check_output_folder(folder: str | Path) -> None:
    """Make sure, before hours of work, that files can be written into a folder, which may still have to be made.

    Raises:
        UserError: it is a file, below a file, or may not be written to.
    """
    folder = Path(folder)
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise UserError(f'{folder}: expected a folder for the outputs, found a file'
                        + ('' if above == folder else f': {above}'))
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f'{folder}: expected a folder for the outputs, found that {above} is not writable')


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files that a killed :func:`atomic_path` left in a folder that nobody else writes to."""
    for path in Path(folder).glob('.*.tmp-*'):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` atomically as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + '\n')


def read_versioned_json(path: str | Path, version: int, written_by: str) -> dict[str, Any]:
    """Read a JSON object whose key ``version`` says which form it has.

    Args:
        path: The file.
        version: The only one that is understood.
        written_by: The tool that writes such files, for the message where there is none.

    Raises:
        UserError: The file is missing, no JSON, no object, or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such file ({written_by} writes one)')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from error
    if not isinstance(content, dict) or content.get('version') != version:
        found = content.get('version') if isinstance(content, dict) else type(content).__name__
        raise UserError(f'{path}: version: expected {version}, found {found!r}')
    return content


def sha256_of(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
