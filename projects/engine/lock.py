"""One training in a work directory at a time."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log

from projects.engine.errors import UserError

LOCK = '.lock'


@contextmanager
def locked(work_dir: str | Path) -> Iterator[None]:
    """Hold a work directory while the body runs; the lock goes with the process, however that ends.

    It is a POSIX record lock: it holds on network file systems, and data-loader workers that outlive a killed training
    for some seconds do not inherit it. Nothing else in the process may open the file: closing it gives the lock away.

    Raises:
        UserError: Another process holds it.
    """
    path = Path(work_dir) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                print_log(f'{work_dir}: its file system has no locks ({error.strerror}): see to it that no other '
                          'training runs in it', 'current', logging.WARNING)
                yield
                return
            file.seek(0)
            holder = file.read().strip() or 'another process'
            raise UserError(f'{work_dir}: {holder} is training in it; wait for it, or choose another --work-dir'
                            ) from error
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
