"""One training in a work directory at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projects.engine.errors import UserError

LOCK = '.lock'


@contextmanager
def locked(work_dir: str | Path) -> Iterator[None]:
    """Hold a work directory while the body runs; the lock goes with the process, however that ends.

    It is a POSIX record lock: it holds on network file systems, and data-loader workers that outlive a killed training
    for some seconds do not inherit it.

    Raises:
        UserError: Another process holds it.
    """
    path = Path(work_dir) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
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
