"""The user's home directory, kept out of what is written."""

import os
import re
from pathlib import Path


def home_pattern(home: str | Path | None = None) -> re.Pattern[str] | None:
    """Return what finds a home directory as a whole path or the beginning of one; None where there is no home.

    ``/root`` is found in ``/root/data`` and in ``'/root'``, not in ``/rootfs`` or ``/mnt/root``.

    Args:
        home: Default the user's.
    """
    try:
        home = str(Path.home() if home is None else home).rstrip('/')
    except RuntimeError:  # a user without one
        return None
    if not re.fullmatch(r'(/[^/]+)+', home):
        return None
    either = '|'.join(re.escape(path) for path in sorted({home, os.path.realpath(home)}, key=len, reverse=True))
    return re.compile(rf'(?<![\w.~-])(?:{either})(?![\w~@+-]|\.\w)')


def without_home(text: str) -> str:
    """Write the user's home directory as ``~``."""
    pattern = home_pattern()
    return text if pattern is None else pattern.sub('~', text)
