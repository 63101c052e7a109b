"""What ``lineage.json`` holds: where a run's numbers come from, down to the bytes of its data.

Reading a record needs no torch. Paths below the user's home are written with ``~``; a config is named by its file
name alone, its whole text stands in the record.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import sha256_of

LINEAGE_NAME = 'lineage.json'
VERSION = 1
KEYS = {'version': int, 'run_id': str, 'name': str, 'task': str, 'chain': str, 'stage': str, 'config': dict,
        'code': dict, 'data': list, 'parents': list, 'starts': list, 'checkpoints': dict, 'metrics': dict}
META_KEYS = ('run_id', 'name', 'task', 'chain', 'stage')
REPOSITORY = Path(__file__).resolve().parents[2]
CODE = ('projects', 'configs', 'tools', 'requirements')  # what a run executes; a data folder beside it is not code
# How and where a run was started, or what the runner derives: none of it belongs to the experiment. The weights that
# a run begins with are its parents.
RUN_KEYS = ('work_dir', 'resume', 'load_from', 'launcher', 'compile', 'channels_last', 'model_wrapper_cfg')
HOOK_KEYS = ('ema', 'early_stopping', 'tracking', 'initialise')  # the runner appends these to custom_hooks
CHECKPOINT_KEYS = ('checkpoint', 'teacher_checkpoint')


def read_lineage(folder: str | Path) -> dict[str, Any] | None:
    """Read ``lineage.json`` of a folder; None where there is none.

    Raises:
        UserError: The file is no lineage of this version.
    """
    path = Path(folder) / LINEAGE_NAME
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path}: not readable as JSON ({type(error).__name__}: {error})') from error
    if not isinstance(record, dict) or record.get('version') != VERSION:
        found = record.get('version') if isinstance(record, dict) else type(record).__name__
        raise UserError(f'{path}: version: expected {VERSION}, found {found!r}')
    for key, expected in KEYS.items():
        if not isinstance(record.get(key), expected):
            raise UserError(f'{path}: key {key}: expected {expected.__name__}, found {type(record.get(key)).__name__}')
    return record


def scrub(value: Any) -> Any:
    """Write the user's home directory as ``~`` in a text, or in every text of nested dicts and lists."""
    home = str(Path.home())
    if isinstance(value, str):
        return value.replace(home, '~') if len(home) > 1 else value
    if isinstance(value, dict):
        return {key: scrub(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(scrub(item) for item in value)
    return value


def text_sha256(text: str) -> str:
    """Return the hexadecimal SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode('utf-8')).hexdigest()


def plain_numbers(metrics: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Return metrics as JSON numbers; what is not finite becomes None, what is no number is left out."""
    plain = {}
    for key, value in (metrics or {}).items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        plain[key] = number if math.isfinite(number) else None
    return plain


def experiment_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's content without :data:`RUN_KEYS` and without the hooks that the runner has appended."""
    plain = {key: value for key, value in config.items() if key not in RUN_KEYS}
    appended = {(plain.get(key) or {}).get('type') for key in HOOK_KEYS} | {'InitialiseHook'}
    if 'custom_hooks' in plain:
        plain['custom_hooks'] = [hook for hook in plain['custom_hooks'] or () if hook.get('type') not in appended]
        if not plain['custom_hooks']:
            del plain['custom_hooks']
    return plain


def code_record(root: Path = REPOSITORY) -> dict[str, Any]:
    """Return commit, dirtiness and the SHA-256 of ``git diff HEAD`` of the checkout that runs; None where unknown.

    Untracked files below :data:`CODE` make it dirty too; the diff does not show them.
    """
    nothing = {'commit': None, 'dirty': None, 'diff_sha256': None}

    def git(*arguments: str) -> bytes:
        return subprocess.run(['git', '-C', str(root), *arguments], capture_output=True, timeout=20, check=True).stdout

    try:
        if Path(os.fsdecode(git('rev-parse', '--show-toplevel')).strip()).resolve() != root.resolve():
            return nothing  # installed below somebody else's repository
        commit = git('rev-parse', 'HEAD').decode().strip()
        changed = git('status', '--porcelain', '--', *CODE)
        diff = git('diff', 'HEAD', '--no-ext-diff', '--no-color', '--binary')
    except (OSError, subprocess.SubprocessError):
        return nothing
    return {'commit': commit, 'dirty': bool(changed or diff),
            'diff_sha256': hashlib.sha256(diff).hexdigest() if diff else None}


def data_records(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one record for every data root of the config's data loaders.

    A prepared data set has a ``manifest.json`` with the hash of every file; its own hash then stands for all of them.
    Other layouts give their root alone.
    """
    records: dict[str, dict[str, Any]] = {}
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for root in _values(config.get(key), 'data_root'):
            records.setdefault(root, _data_record(root))
    return list(records.values())


def _data_record(root: str) -> dict[str, Any]:
    path = Path(root).expanduser()
    record = {'name': path.resolve().name, 'root': scrub(root), 'manifest': None, 'sha256': None, 'splits': {},
              'taxonomy_hash': None}
    manifest = path / 'manifest.json'
    if not manifest.is_file():
        return record
    record.update(manifest=manifest.name, sha256=sha256_of(manifest))
    try:
        content = json.loads(manifest.read_text(encoding='utf-8'))
        for item in content['items']:
            record['splits'][item['split']] = record['splits'].get(item['split'], 0) + 1
        record['taxonomy_hash'] = content['taxonomy'].get('taxonomy_hash')
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # another project's manifest: its hash still stands
    return record


def _values(value: Any, name: str) -> Iterator[str]:
    """Yield every string below a key of this name, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == name and isinstance(item, (str, Path)):
                yield str(item)
            else:
                yield from _values(item, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _values(item, name)


def parent_files(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield role and path of every checkpoint file that a config names, ``load_from`` left out.

    The role is ``teacher`` below a key with ``teacher`` in its name, else ``initialise``.
    """

    def walk(value: Any, teacher: bool) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            for key, item in value.items():
                below = teacher or 'teacher' in str(key)
                if key in CHECKPOINT_KEYS and isinstance(item, str):
                    if Path(item).expanduser().is_file():
                        yield 'teacher' if below else 'initialise', item
                else:
                    yield from walk(item, below)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from walk(item, teacher)

    yield from dict.fromkeys(walk(config, False))


def parent_record(role: str, path: str, work_dir: str | Path, own_id: str | None = None) -> dict[str, Any]:
    """Return a parent: its hash, and where it came from itself.

    Args:
        role: ``load_from``, ``teacher``, ``initialise`` or ``resume`` (a run that goes on in another work directory).
        path: As the config gives it. It is written relative to the work directory where both lie in one folder of
            runs, which may then move as a whole.
        work_dir: The child's work directory.
        own_id: The child's run id; its own lineage is not nested into itself.
    """
    file = Path(path).expanduser()
    sha256 = sha256_of(file)
    runs = Path(work_dir).resolve().parent
    given = scrub(path)
    if file.resolve().is_relative_to(runs) and len(runs.parts) > 1:
        given = os.path.relpath(file.resolve(), Path(work_dir).resolve())
    lineage = lineage_of_checkpoint(file, sha256)
    if lineage and own_id and lineage.get('run_id') == own_id:
        lineage = None
    return {'role': role, 'file': file.name, 'path': given, 'sha256': sha256, 'lineage': lineage}


def lineage_of_checkpoint(file: Path, sha256: str | None = None) -> dict[str, Any] | None:
    """Return a checkpoint's lineage: the ``lineage.json`` beside it when it is this file's, else what its meta says.

    Args:
        file: The checkpoint.
        sha256: Its hash, where the caller has it already.

    Returns:
        The whole record; a minimal one (run id, names, config hash) where only the file's meta tells; None where
        nothing does.
    """
    try:
        beside = read_lineage(file.parent)
    except UserError:
        beside = None
    if beside and beside['checkpoints'].get(file.name, {}).get('sha256') == (sha256 or sha256_of(file)):
        return beside
    from projects.engine.checkpoints import read_checkpoint  # here: it brings torch

    meta = read_checkpoint(file)['meta']
    known = meta.get('lineage')
    if not isinstance(known, dict) or not known.get('run_id'):
        return None
    if beside and beside['run_id'] == known['run_id']:
        return beside  # the run was killed between the file and its record
    config = {'file': None, 'text': scrub(str(meta.get('cfg') or '')) or None, 'sha256': known.get('config_sha256')}
    return {'version': VERSION, **{key: known.get(key) for key in META_KEYS}, 'minimal': True, 'config': config,
            'code': {}, 'data': [], 'parents': [], 'seed': meta.get('seed'), 'starts': [], 'checkpoints': {},
            'metrics': {}}


def versions() -> dict[str, str | None]:
    """Return the versions of what decides a run's numbers."""
    found: dict[str, str | None] = {'python': platform.python_version()}
    for name, distribution in (('torch', 'torch'), ('mmengine', 'onedl-mmengine'),
                               ('mmsegmentation', 'onedl-mmsegmentation'), ('numpy', 'numpy'), ('terrace', 'terrace')):
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def processor() -> dict[str, Any]:
    """Return the processor's name, the cores that this process may use, and the memory in GiB."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace').splitlines()
        name = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), name)
        memory = round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1)
    except (OSError, ValueError):
        memory = None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return {'cpu': name, 'cores': cores, 'memory_gib': memory}


def peak_memory_mib() -> float | None:
    """Return the highest resident memory of this process so far in MiB (its workers not counted)."""
    try:  # getrusage would give the parent's peak where that was higher
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith('VmHWM:'):
                return round(int(line.split()[1]) / 1024, 1)
    except (OSError, ValueError):
        pass
    return None
