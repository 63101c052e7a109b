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
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.private import without_home

LINEAGE_NAME = 'lineage.json'
VERSION = 1
KEYS = {'version': int, 'run_id': str, 'name': str, 'task': str, 'chain': str, 'stage': str, 'config': dict,
        'code': dict, 'data': list, 'parents': list, 'starts': list, 'checkpoints': dict, 'metrics': dict}
ANY = '*'
_NUMBERS = {ANY: float}
# What is below the keys; None stands for unknown everywhere.
SHAPES: dict[str, Any] = {
    'tags': [str],
    'config': {'file': str, 'text': str, 'sha256': str},
    'code': {'commit': str, 'dirty': bool, 'diff_sha256': str},
    'data': [{'name': str, 'root': str, 'source': str, 'manifest': str, 'sha256': str, 'splits': {ANY: int},
              'taxonomy_hash': str}],
    'files': [{'role': str, 'file': str, 'path': str, 'sha256': str}],
    'parents': [{'role': str, 'file': str, 'path': str, 'sha256': str, 'lineage': dict, 'report': {
        'share_of_keys': float, 'share_of_elements': float, 'new': list}}],
    'seed': int, 'versions': {ANY: str},
    'hardware': {'cpu': str, 'cores': int, 'memory_gib': float, 'gpus': [str], 'processes': int},
    'starts': [{'started': str, 'ended': str, 'from_iteration': int, 'to_iteration': int, 'status': str,
                'reason': str, 'seconds': timedelta, 'peak_memory_mib': float, 'gpu_memory_mib': float,
                'energy_wh': float, 'config_sha256': str, 'data_sha256': list, 'changed': [str]}],
    'checkpoints': {ANY: {'sha256': str, 'step': int, 'aliases': [str], 'metrics': _NUMBERS, 'source': {
        'file': str, 'sha256': str}}},
    'past_checkpoints': [str],
    'metrics': {'val': _NUMBERS, 'best': _NUMBERS, 'test': _NUMBERS, 'tested': {
        'file': str, 'sha256': str, 'run_id': str}},
}
META_KEYS = ('run_id', 'name', 'task', 'chain', 'stage')
REPOSITORY = Path(__file__).resolve().parents[2]
CODE = ('projects', 'configs', 'tools', 'requirements')  # what a run executes; a data folder beside it is not code
# How and where a run was started, or what the runner derives: none of it belongs to the experiment. The weights that
# a run begins with are its parents.
RUN_KEYS = ('work_dir', 'resume', 'load_from', 'launcher', 'compile', 'channels_last', 'model_wrapper_cfg')
# The runner appends these to custom_hooks.
HOOK_KEYS = ('ema', 'early_stopping', 'tracking', 'loss_schedule', 'difficulty', 'scale_policy', 'scale_maps',
             'initialise')
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
    try:
        check_record(record)
    except (UserError, RecursionError) as error:
        raise UserError(f'{path}: {error if isinstance(error, UserError) else "too deeply nested"}') from error
    return record


def check_record(record: Mapping[str, Any], place: str = '') -> None:
    """Check the types of a record that somebody may have edited, those of its parents too.

    Raises:
        UserError: The first key whose value is something else, and what was expected.
    """
    minimal = record.get('minimal') is True
    for key, expected in KEYS.items():
        if not isinstance(record.get(key), expected) and not (minimal and key in META_KEYS and record.get(key) is None):
            raise UserError(f'key {place}{key}: expected {expected.__name__}, found {type(record.get(key)).__name__}')
    for key, shape in SHAPES.items():
        if record.get(key) is not None:
            _check_shape(record[key], shape, f'{place}{key}')
    for index, parent in enumerate(record['parents']):
        if parent.get('lineage') is not None:
            check_record(parent['lineage'], f'{place}parents.{index}.lineage.')


def _check_shape(value: Any, shape: Any, place: str) -> None:
    if isinstance(shape, type):
        good = isinstance(value, shape) and not (shape is int and isinstance(value, bool))
        if shape in (float, timedelta):
            good = type(value) in (int, float) and abs(value) < (1e13 if shape is timedelta else sys.float_info.max)
        if not good:
            expected = {float: 'a number', timedelta: 'seconds'}.get(shape, shape.__name__)
            raise UserError(f'key {place}: expected {expected}, found {value!r}'[:200])
        return
    if not isinstance(value, type(shape)):
        raise UserError(f'key {place}: expected {type(shape).__name__}, found {value!r}'[:200])
    if isinstance(shape, list):
        pairs = [(str(index), item, shape[0]) for index, item in enumerate(value)]
    elif ANY in shape:
        pairs = [(key, item, shape[ANY]) for key, item in value.items()]
    else:
        pairs = [(key, value.get(key), below) for key, below in shape.items()]
    for key, item, below in pairs:
        if item is not None:
            _check_shape(item, below, f'{place}.{key}')
        elif isinstance(shape, list) or (ANY in shape and below not in (float, str)):  # elsewhere None is unknown
            raise UserError(f'key {place}.{key}: expected a value, found null')


def known_weights(record: Mapping[str, Any]) -> set[str]:
    """Return the hashes of all checkpoints that a run wrote, deleted ones too."""
    entries = list((record.get('checkpoints') or {}).values())
    sources = [entry.get('source') or {} for entry in entries]
    return ({one.get('sha256') for one in (*entries, *sources)} | set(record.get('past_checkpoints') or ())) - {None}


def foreign_test(record: Mapping[str, Any] | None) -> str | None:
    """Return the name of the tested file where a training's record has a score of weights that it did not write."""
    tested = ((record or {}).get('metrics') or {}).get('tested') or {}
    if not tested.get('sha256') or not record.get('starts') or tested['sha256'] in known_weights(record):
        return None
    return None if tested.get('run_id') == record.get('run_id') else str(tested.get('file'))


def scrub(value: Any) -> Any:
    """Write the user's home directory as ``~`` in a text, or in every text of nested dicts and lists."""
    if isinstance(value, str):
        return without_home(value)
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
    if plain.get('distil') and 'student' in (plain.get('model') or {}):  # the runner wraps the model
        plain['model'] = plain['model']['student']
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


def data_records(config: Mapping[str, Any], work_dir: str | Path) -> list[dict[str, Any]]:
    """Return one record for every data root of the config's data loaders.

    A prepared data set has a ``manifest.json`` with the hash of every file; its own hash then stands for all of them.
    Other layouts give their root alone. A relative root is written relative to the work directory.
    """
    records: dict[str, dict[str, Any]] = {}
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for root in _values(config.get(key), 'data_root'):
            records.setdefault(root, _data_record(root, Path(work_dir)))
    return list(records.values())


def _data_record(root: str, work_dir: Path) -> dict[str, Any]:
    path = Path(root).expanduser()
    record = {'name': path.resolve().name, 'root': _recorded(root, work_dir), 'source': None, 'manifest': None,
              'sha256': None, 'splits': {}, 'taxonomy_hash': None}
    manifest = path / 'manifest.json'
    if not manifest.is_file():
        return record
    record.update(manifest=manifest.name, sha256=sha256_of(manifest))
    try:
        content = json.loads(manifest.read_text(encoding='utf-8'))
        for item in content['items']:
            split = str(item['split'])
            record['splits'][split] = record['splits'].get(split, 0) + 1
        found = content['taxonomy'].get('taxonomy_hash')
        record['taxonomy_hash'] = found if isinstance(found, str) else None
        source = content.get('source') or {}
        record['source'] = Path(source['root']).name if source.get('root') else None  # the rest is private
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # another project's manifest: its hash still stands
    return record


def file_records(config: Mapping[str, Any], work_dir: str | Path) -> list[dict[str, Any]]:
    """Return one record for every other file that decides what is trained on: the sampler's ``difficulty``.

    A relative path is written relative to the work directory.
    """
    paths = dict.fromkeys(_values((config.get('train_dataloader') or {}).get('sampler'), 'difficulty'))
    return [{'role': 'difficulty', 'file': Path(path).name, 'path': _recorded(path, Path(work_dir)),
             'sha256': sha256_of(Path(path).expanduser())} for path in paths if Path(path).expanduser().is_file()]


def _values(value: Any, name: str) -> Iterator[str]:
    """Yield every string below a key of this name, at any depth; it may hold one, a list or a dict of them."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            several = (item.values() if isinstance(item, Mapping) else
                       item if isinstance(item, (list, tuple)) else (item,)) if key == name else ()
            if several and all(isinstance(one, (str, Path)) for one in several):
                yield from map(str, several)
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
    given = _recorded(path, Path(work_dir))
    if file.resolve().is_relative_to(runs) and len(runs.parts) > 1:
        given = os.path.relpath(file.resolve(), Path(work_dir).resolve())
    lineage = lineage_of_checkpoint(file, sha256)
    if lineage and own_id and lineage.get('run_id') == own_id:
        lineage = None
    return {'role': role, 'file': file.name, 'path': given, 'sha256': sha256, 'lineage': lineage}


def _recorded(path: str, work_dir: Path) -> str:
    """Write a path so that the work directory alone tells where it leads, whatever the current directory is."""
    if Path(path).expanduser().is_absolute():
        return scrub(path)
    return os.path.relpath(Path(path).resolve(), work_dir.resolve())


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
    sha256 = known.get('config_sha256')
    config = {'file': None, 'text': scrub(str(meta.get('cfg') or '')) or None, 'sha256': sha256 and str(sha256)}
    names = {key: None if known.get(key) is None else str(known[key]) for key in META_KEYS}
    seed = meta['seed'] if isinstance(meta.get('seed'), int) else None
    return {'version': VERSION, **names, 'minimal': True, 'config': config, 'code': {}, 'data': [], 'parents': [],
            'seed': seed, 'starts': [], 'checkpoints': {}, 'metrics': {}}


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
