"""One process at a time: one training in a work directory, one page on a decisions file."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projects.engine.errors import UserError

LOCK = '.lock'


@contextmanager
def locked(work_dir: str | Path) -> Iterator[None]:
    """Hold a work directory while the body runs, see :func:`held`.

    Raises:
        UserError: Another process holds it.
    """
    with held(Path(work_dir) / LOCK, work_dir, 'is training in it; wait for it, or choose another --work-dir'):
        yield


@contextmanager
def held(path: Path, what: str | Path, refusal: str) -> Iterator[None]:
    """Hold a lock file while the body runs; the lock goes with the process, however that ends.

    It is a POSIX record lock: it holds on network file systems, and data-loader workers that outlive a killed training
    for some seconds do not inherit it. Nothing else in the process may open the file: closing it gives the lock away.

    Args:
        path: The lock file; made where it is missing.
        what: What it stands for, for the messages.
        refusal: What the process that holds it does, and what to do then.

    Raises:
        UserError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                from mmengine.logging import print_log  # here: it brings torch, and the review page does without

                print_log(f'{what}: its file system has no locks ({error.strerror}): see to it that no other process '
                          'works in it', 'current', logging.WARNING)
                yield
                return
            file.seek(0)
            holder = file.read().strip() or 'another process'
            raise UserError(f'{what}: {holder} {refusal}') from error
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def is_locked(work_dir: str | Path) -> bool:
    """Say whether another process trains in a work directory. Not to be asked by the process that does."""
    path = Path(work_dir) / LOCK
    if not path.is_file():
        return False
    try:
        with open(path, 'r+', encoding='utf-8') as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False
