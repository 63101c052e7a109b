"""One review of a decisions file at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projects.engine.errors import UserError


@contextmanager
def reviewing(decisions: Path) -> Iterator[None]:
    """Hold a decisions file while the body runs, by a lock file beside it that goes with the process.

    Two servers would each append without knowing the other's rows. Like :mod:`projects.engine.lock` this is a POSIX
    record lock: it holds on network file systems.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    path = decisions.with_name(f'.{decisions.name}.lock')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115  (closed below)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror or error}') from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or 'another process'
            raise UserError(f'{decisions}: {holder} is serving its review; stop that one first, or choose other '
                            '--decisions') from error
        except OSError as error:
            raise UserError(f'{path}: its file system has no locks ({error.strerror}); choose --decisions elsewhere'
                            ) from error
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
