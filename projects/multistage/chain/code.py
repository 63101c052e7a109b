"""The code that a stage executes, as hashes that remarks and documentation do not change.

Every import of ``projects`` that the tool or the config's ``custom_imports`` reach counts, those within functions too.
Each module is hashed by its syntax tree without docstrings: comments, blank lines and README files are no code.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from projects.multistage.chain.stages import ROOT

_KNOWN: dict[tuple[Path, int, int], tuple[str, tuple[str, ...]]] = {}  # by file, mtime and size: hash and imports


def code_hashes(starts: Iterable[str | Path], root: Path = ROOT) -> dict[str, str]:
    """Return the hash of every file that is reached.

    Args:
        starts: Files (a tool's script), or dotted names of modules below ``root``.
        root: The checkout.

    Returns:
        By path, relative to the checkout where it lies there. A shell script stands for itself and for every script
        and tool beside it.
    """
    found: dict[str, str] = {}
    waiting = [path for start in starts for path in _files(start, root)]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        if name in found:
            continue
        found[name], imports = _hash(path)
        if path.suffix == '.sh':
            waiting += sorted([*path.parent.glob('*.sh'), *path.parent.glob('*.py')])
        waiting += [file for module in imports for file in _files(module, root)]
    return dict(sorted(found.items()))


def digest(hashes: dict[str, str]) -> str:
    """Return one hash of all."""
    return hashlib.sha256('\n'.join(f'{name} {value}' for name, value in sorted(hashes.items())).encode()).hexdigest()


def _files(start: str | Path, root: Path) -> Iterator[Path]:
    if isinstance(start, Path):
        yield start
        return
    parts = start.split('.')
    for depth in range(1, len(parts) + 1):  # importing a module runs the packages above it
        base = root.joinpath(*parts[:depth])
        for path in (base.with_suffix('.py'), base / '__init__.py'):
            if path.is_file():
                yield path


def _hash(path: Path) -> tuple[str, tuple[str, ...]]:
    status = path.stat()
    key = (path, status.st_mtime_ns, status.st_size)
    if key not in _KNOWN:
        _KNOWN[key] = _read(path)
    return _KNOWN[key]


def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    content = path.read_bytes()
    plain = hashlib.sha256(content).hexdigest()[:16]
    if path.suffix != '.py':
        return plain, ()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return plain, ()
    imports: list[str] = []
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body and isinstance(
                body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
            node.body = body[1:]
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports += [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
    own = tuple(dict.fromkeys(name for name in imports if name.partition('.')[0] == 'projects'))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], own
