"""The chain of stages behind a run or a checkpoint, back to the data: as a readable tree, and checked hash by hash."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.lineage_record import (
    LINEAGE_NAME,
    foreign_test,
    lineage_of_checkpoint,
    read_lineage,
    text_sha256,
)

SHOWN = 4  # metrics on one line
DEPTH = 100  # generations
STATUSES = ('same', 'absent', 'differs')


@dataclass(frozen=True)
class Finding:
    """One hash, verified; ``status`` is one of :data:`STATUSES`."""

    status: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f'{self.status:<8} {self.subject}: {self.text}'


def find_lineage(path: str | Path) -> tuple[dict[str, Any], Path]:
    """Return the record of a work directory or of a checkpoint, and the folder that its relative paths start from.

    Raises:
        UserError: There is no such path, or it has no lineage.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        record = read_lineage(path)
        if record is None:
            raise UserError(f'{path}: no {LINEAGE_NAME}: not the work directory of a run, or one from before lineage')
        return record, path
    if not path.exists():
        raise UserError(f'{path}: no such work directory or checkpoint')
    record = lineage_of_checkpoint(path)
    if record is None:
        raise UserError(f'checkpoint {path}: no {LINEAGE_NAME} beside it that names it, and no lineage in its meta')
    return record, path.parent


def tree(record: Mapping[str, Any]) -> str:
    """Return the record and all its ancestors as text, the youngest first."""
    return '\n'.join(_lines(record, ()))


def _lines(record: Mapping[str, Any], seen: tuple[str, ...]) -> Iterator[str]:
    run = str(record.get('run_id'))
    kind = 'run' if record.get('starts') or record.get('minimal') else 'a test, run'
    yield (f'{record.get("task")} · {record.get("chain")} · stage {record.get("stage")}   ({kind} {run})'
           + ('   above already' if run in seen else ''))
    if run in seen or len(seen) >= DEPTH:
        return
    config, code = record.get('config') or {}, record.get('code') or {}
    parents = record.get('parents') or []
    facts = [('config', f'{config.get("file") or record.get("name")}  sha256 {_short(config.get("sha256"))}')]
    if record.get('minimal'):
        facts.append(('note', 'only what the checkpoint itself tells: its lineage.json was not beside it'))
    else:
        facts.append(('code', _code(code)))
    for data in record.get('data') or ():
        counts = ', '.join(f'{number} {split}' for split, number in (data.get('splits') or {}).items())
        told = f'manifest sha256 {_short(data["sha256"])}' if data.get('sha256') else 'no manifest: files not known'
        facts.append(('data', '  '.join(part for part in (data.get('name'), counts, told) if part)))
    for item in record.get('files') or ():
        facts.append((str(item.get('role')), f'{item.get("path")}  sha256 {_short(item.get("sha256"))}'))
    for start in record.get('starts') or ():
        facts.append(('start', _start(start)))
    for name, entry in (record.get('checkpoints') or {}).items():
        aliases = f' ({", ".join(entry["aliases"])})' if entry.get('aliases') else ''
        facts.append(
            ('saved', f'{name}{aliases}  sha256 {_short(entry.get("sha256"))}  {_numbers(entry.get("metrics"))}'))
    for key in ('val', 'best', 'test'):
        if numbers := (record.get('metrics') or {}).get(key):
            tested = (record['metrics'].get('tested') or {}).get('file') if key == 'test' else None
            foreign = ': weights that this run did not write' if key == 'test' and foreign_test(record) else ''
            facts.append((key, _numbers(numbers) + (f'  of {tested}{foreign}' if tested else '')))
    if hardware := record.get('hardware'):
        machine = ', '.join(hardware.get('gpus') or ()) or hardware.get('cpu')
        libraries = record.get('versions') or {}
        facts.append(('on', f'{machine}, {hardware.get("processes")} process'
                            f'{"es" if hardware.get("processes") != 1 else ""}, torch {libraries.get("torch")}, '
                            f'python {libraries.get("python")}, seed {record.get("seed")}'))
    for label, text in facts:
        yield f'{"│" if parents else " "} {label:<7} {text.rstrip()}'
    for index, parent in enumerate(parents):
        last = index == len(parents) - 1
        report = parent.get('report') or {}
        share = ''
        if 'share_of_keys' in report:
            share = f'  {100 * min(report["share_of_keys"], report["share_of_elements"]):.1f} % matched'
            share += f', anew: {len(report["new"])} keys' if report.get('new') else ''
        yield (f'{"└" if last else "├"}─ {parent.get("role")}: {parent.get("path")}  '
               f'sha256 {_short(parent.get("sha256"))}{share}')
        below = _lines(parent['lineage'], (*seen, run)) if parent.get('lineage') else ['nothing known of its origin']
        for line in below:
            yield f'{" " if last else "│"}  {line}'


def _code(code: Mapping[str, Any]) -> str:
    if not code.get('commit'):
        return 'unknown: no git checkout'
    if not code.get('dirty'):
        return f'commit {_short(code["commit"])}'
    diff = f'git diff sha256 {_short(code["diff_sha256"])}' if code.get('diff_sha256') else 'untracked files'
    return f'commit {_short(code["commit"])} with local changes ({diff})'


def _start(start: Mapping[str, Any]) -> str:
    took = str(timedelta(seconds=round(start.get('seconds') or 0)))
    parts = [f'{str(start.get("started"))[:19].replace("T", " ")} UTC',
             f'iterations {start.get("from_iteration")} to {start.get("to_iteration")}', took, str(start.get('status'))]
    if start.get('reason'):
        parts[-1] += f' ({start["reason"]})'
    for key, unit in (('peak_memory_mib', 'MiB'), ('gpu_memory_mib', 'MiB on the GPU'), ('energy_wh', 'Wh')):
        if start.get(key) is not None:
            parts.append(f'{start[key]:g} {unit}')
    if start.get('changed'):
        parts.append(f'changed since the start before: {"; ".join(start["changed"])}')
    return ', '.join(parts)


def _numbers(numbers: Mapping[str, Any] | None) -> str:
    plain = {key: value for key, value in (numbers or {}).items() if '/' not in key and key != 'step'}
    shown = '  '.join(f'{key} {"–" if value is None else format(value, ".4f")}'
                      for key, value in list(plain.items())[:SHOWN])
    step = (numbers or {}).get('step')
    return shown + (f'  at {step}' if step is not None else '')


def _short(digest: Any) -> str:
    return str(digest)[:12] if digest else 'unknown'


def check(record: Mapping[str, Any], folder: str | Path) -> list[Finding]:
    """Verify every hash of a record and its ancestors that can still be verified.

    Args:
        record: From :func:`find_lineage`.
        folder: The folder of the record, which relative paths start from.

    Returns:
        One finding for each configuration text, checkpoint, data manifest, other file and parent, each file once.
    """
    return list(dict.fromkeys(_findings(record, Path(folder), 0)))


def _findings(record: Mapping[str, Any], folder: Path, depth: int) -> Iterator[Finding]:
    if depth >= DEPTH:
        return
    label = f'{record.get("stage")} ({record.get("run_id")})'
    config = record.get('config') or {}
    if config.get('text') and config.get('file'):
        yield _compare(f'{label} config text', config.get('sha256'), text_sha256(config['text']))
    for name, entry in (record.get('checkpoints') or {}).items():
        yield _verify(f'{label} checkpoint', entry.get('sha256'), name, folder / name)
    for data in record.get('data') or ():
        if data.get('sha256'):
            name = f'{data.get("root")}/{data.get("manifest")}'
            yield _verify(f'{label} data', data['sha256'], name, _place(name, folder))
    for item in record.get('files') or ():
        yield _verify(f'{label} {item.get("role")}', item.get('sha256'), str(item.get('path')),
                      _place(str(item.get('path')), folder))
    for parent in record.get('parents') or ():
        place = _place(str(parent.get('path')), folder)
        yield _verify(f'{label} {parent.get("role")}', parent.get('sha256'), str(parent.get('path')), place)
        if parent.get('lineage'):
            yield from _findings(parent['lineage'], place.parent, depth + 1)


def _place(path: str, folder: Path) -> Path:
    """Where a recorded path lies; never below the current directory, which has nothing to do with the run."""
    return Path(os.path.normpath(folder.resolve() / Path(path).expanduser()))


def _verify(subject: str, expected: Any, name: str, place: Path) -> Finding:
    if not place.is_file():
        return Finding('absent', subject, f'{name}: not here any more, sha256 was {_short(expected)}')
    return _compare(f'{subject} {name}', expected, sha256_of(place))


def _compare(subject: str, expected: Any, found: str) -> Finding:
    if expected == found:
        return Finding('same', subject, f'sha256 {_short(found)}')
    return Finding('differs', subject, f'expected sha256 {_short(expected)}, found {_short(found)}')
