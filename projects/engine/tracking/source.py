"""The code of a run, as git knows it; nothing else on the disk is looked at."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from projects.engine.lineage_record import code_record

ROOT = Path(__file__).resolve().parents[3]
LARGEST = 1 << 20  # bytes; source files are smaller


@dataclass(frozen=True)
class Source:
    """A checkout: its commit, whether it was changed, and its tracked files with what they hold now."""

    root: Path
    commit: str
    dirty: bool
    files: tuple[str, ...]  # relative to root

    def sha256(self) -> str:
        """Return a hash of all names and contents."""
        digest = hashlib.sha256()
        for name in self.files:
            digest.update(name.encode() + b'\0' + hashlib.sha256((self.root / name).read_bytes()).digest())
        return digest.hexdigest()


def read_source(root: Path = ROOT) -> Source | None:
    """Return what git tracks below a checkout; None where there is no git or the folder is not a checkout's root."""
    found, names = code_record(root), _git(root, 'ls-files', '-z')
    if found['commit'] is None or names is None:
        return None
    files = [name for name in names.split('\0') if name]
    kept = tuple(name for name in sorted(files) if _is_source(root / name))
    return Source(root, found['commit'], bool(found['dirty']), kept)


def _is_source(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST


def _git(root: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(['git', '-C', str(root), *arguments], capture_output=True, text=True, timeout=20,
                              check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
