"""Named moments at which a test can end the process or fill the disk: how the writer's order of steps is proven.

``TERRACE_FAIL_POINT=MOMENT:GLOB[:ACTION]`` arms one moment for files whose name matches the pattern, for example
``before_rename:iter_20.pth``. ``ACTION`` is ``kill`` (the default: SIGKILL, nothing is cleaned up) or ``full`` (the
system's "no space left on device"). Without the variable a moment costs one lookup.
"""

import errno
import os
import signal
from fnmatch import fnmatch
from pathlib import Path

VARIABLE = 'TERRACE_FAIL_POINT'


def fail_point(moment: str, path: str | Path) -> None:
    """End here when this moment is armed for this file.

    Raises:
        OSError: ENOSPC, where the armed action is ``full``.
    """
    armed = os.environ.get(VARIABLE)
    if not armed:
        return
    wanted, glob, action = (*armed.split(':'), 'kill')[:3]
    if wanted != moment or not fnmatch(Path(path).name, glob):
        return
    if action == 'full':
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    os.kill(os.getpid(), signal.SIGKILL)
