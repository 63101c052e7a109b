"""The two tables of a chain: how the scores went from stage to stage, and what became of the data.

A data set's column is read off its ``manifest.json`` (``items``, and where they are there ``combined.sources``,
``filtered.removed``, ``corrections.replaced``) and off a ``data_statistics.json`` beside it, whose ``rows`` (name and
number) come first. The chain knows no task: what a row means is the affair of the tool that wrote it.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from projects.engine.files import write_json, write_text
from projects.evaluation.tables import markdown_table, text_table
from projects.multistage.chain.contents import MANIFEST, read_manifest_items
from projects.multistage.chain.definition import Chain
from projects.multistage.chain.process import left_behind
from projects.multistage.chain.run import ChainRunner
from projects.multistage.chain.stages import ToolStage, TrainStage, WaitStage

STATISTICS = 'data_statistics.json'
CORRECTED, TOTAL, TRAIN, REMOVED, EFFECTIVE = (
    'Corrected masks', 'Total images', 'Training images', 'Removed images', 'Effective samples per epoch')
KEPT = (CORRECTED, REMOVED)  # what was done to the data that a set was made from holds for it too
WORDS = ('Status', 'Notes')


def progression(runner: ChainRunner) -> dict[str, Any]:
    """Return both tables' values: ``stages`` (one dict each) and ``data`` (``columns``, and ``rows`` by name)."""
    return {'version': 1, 'chain': runner.chain.name, 'scores': list(runner.chain.scores),
            'stages': list(_stages(runner)), 'data': _data(runner)}


def progression_text(values: Mapping[str, Any]) -> str:
    """Return both tables for a terminal."""
    parts = []
    for title, header, rows in _tables(values):
        for index in [header.index(name) for name in WORDS if name in header]:  # words stand to the left
            width = max(len(row[index]) for row in [header, *rows])
            for row in [header, *rows]:
                row[index] = row[index].ljust(width)
        parts.append(f'{title}\n{text_table(header, rows)}')
    return '\n\n'.join(parts)


def progression_markdown(values: Mapping[str, Any]) -> str:
    """Return both tables, and the gates' lines, as Markdown."""
    parts = [f'# {values["chain"]}\n']
    parts += [f'## {title}\n\n{markdown_table(header, rows)}' for title, header, rows in _tables(values)]
    gates = [stage['gate'] for stage in values['stages'] if stage['gate']]
    if gates:
        parts.append('## Gates\n\n' + ''.join(f'- {text}\n' for text in gates))
    return '\n'.join(parts)


def write_progression(runner: ChainRunner) -> dict[str, Any]:
    """Write ``progression.json`` and ``chain.md`` where they are not the same already; return the values."""
    values = progression(runner)
    if _read_json(runner.work_dir / 'progression.json') != values:
        write_json(runner.work_dir / 'progression.json', values)
    text, path = progression_markdown(values), runner.work_dir / 'chain.md'
    if not path.is_file() or path.read_text(encoding='utf-8') != text:
        write_text(path, text)
    return values


def _stages(runner: ChainRunner) -> Iterator[dict[str, Any]]:
    for stage in runner.chain.stages:
        if isinstance(stage, WaitStage):
            status = 'waits' if runner.missing(stage) else 'complete'
            yield {'name': stage.name, 'status': status, 'images': None, 'split': None, 'metrics': {}, 'gain': None,
                   'gate': None, 'seconds': None, 'note': stage.note}
            continue
        entry, result = runner.state.get(stage.name) or {}, runner.result(stage.name) or {}
        gate = (entry.get('gate') or {}) if result and stage.gate else {}
        measures = result.get('measures') or {}
        split = gate.get('split') if gate.get('split') in measures else next(iter(measures), None)
        measure = measures.get(split) or {}
        trained = isinstance(stage, TrainStage)
        status = entry.get('status', 'not begun')
        if status == 'running' and entry.get('host') == socket.gethostname() and not left_behind(
                runner.directory(stage.name)):
            status = 'killed'
        yield {'name': stage.name, 'status': status,
               'images': result.get('images') if trained else measure.get('samples'), 'split': split,
               'metrics': measure.get('metrics') or {}, 'gain': gate.get('gain'), 'gate': gate.get('text'),
               'seconds': entry.get('seconds') or None, 'note': _note(stage.note, gate)}


def _note(note: str, gate: Mapping[str, Any]) -> str:
    verdict = gate.get('verdict')
    told = {'failed': f'loses against {gate.get("parent")}',
            'incomparable': f'not comparable with {gate.get("parent")}'}.get(verdict, '')
    budget = 'another budget' if gate.get('same_budget') is False else ''
    return '; '.join(part for part in (note, told, budget) if part)


def _tables(values: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    rows = []
    scores, factor = {name: name for name in values['scores']}, 1
    if not scores:
        scores, factor = {'mIoU': 'mIoU', 'F1': 'mF1'}, 100
    for stage in values['stages']:
        gain, seconds = stage['gain'], stage['seconds']
        found = [stage['metrics'].get(name) for name in scores.values()]
        rows.append([stage['name'], _count(stage['images']), stage['split'] or '–',
                     *('–' if value is None else f'{factor * value:.2f}' for value in found),
                     '–' if gain is None else f'{factor * gain:+.2f}',
                     '–' if seconds is None else _clock(seconds), stage['status'], stage['note']])
    yield 'Stage progression', ['Stage', 'Images', 'Split', *scores, 'Gain', 'Time', 'Status', 'Notes'], rows
    data = values['data']
    if data['columns']:
        yield 'Data', ['Images', *data['columns']], [
            [name, *map(_count, counts)] for name, counts in data['rows'].items()]


def _data(runner: ChainRunner) -> dict[str, Any]:
    """One column for each data set that comes in or that a stage makes, in order."""
    columns: dict[str, dict[str, int]] = {}
    owners: dict[str, str | None] = {}
    for key, value in runner.chain.inputs.items():
        if rows := _rows_of(Path(value).expanduser()):
            columns[key], owners[key] = rows, None
    for stage in runner.chain.stages:
        if isinstance(stage, ToolStage) and runner.result(stage.name) is not None:
            folder = runner.directory(stage.name)
            found: dict[str, int] = {}
            for place in dict.fromkeys([folder, *(folder / name for name in stage.outputs), *_sets_below(folder)]):
                found.update(_rows_of(place if place.is_dir() else place.parent))
            if found:
                columns[stage.name], owners[stage.name] = found, stage.name
    _carry(runner.chain, columns, owners)
    names = list(dict.fromkeys(name for rows in columns.values() for name in rows))
    last = [TRAIN, TOTAL, REMOVED, CORRECTED, EFFECTIVE]
    names.sort(key=lambda name: last.index(name) if name in last else -1)  # stable
    return {'columns': list(columns), 'rows': {name: [rows.get(name) for rows in columns.values()] for name in names}}


def _sets_below(folder: Path) -> list[Path]:
    return sorted(path.parent for pattern in (f'*/{MANIFEST}', f'*/{STATISTICS}') for path in folder.glob(pattern))


def _carry(chain: Chain, columns: dict[str, dict[str, int]], owners: Mapping[str, str | None]) -> None:
    """What was corrected or removed before stays so in what was made from it."""
    for column, rows in columns.items():
        if owners[column] is None:
            continue
        for name in reversed(chain.ancestors(owners[column])):
            for row in KEPT:
                if row not in rows and row in columns.get(name, ()):
                    rows[row] = columns[name][row]
    for row in KEPT:
        if any(row in rows for rows in columns.values()):
            for rows in columns.values():
                rows.setdefault(row, 0)


def _rows_of(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    rows: dict[str, int] = {}
    manifest, items = read_manifest_items(folder)
    if items:
        sources = _below(manifest, 'combined', 'sources')
        if isinstance(sources, Mapping):
            rows.update({f'Images of {name}': number for name, number in sources.items() if type(number) is int})
        for row, value in ((CORRECTED, _below(manifest, 'corrections', 'replaced')),
                           (REMOVED, _below(manifest, 'filtered', 'removed'))):
            if type(value) is int:
                rows[row] = value
            elif isinstance(value, list):
                rows[row] = len(value)
        rows[TOTAL] = len(items)
        rows[TRAIN] = rows[EFFECTIVE] = sum(item.get('split') == 'train' for item in items)
    told = _read_json(folder / STATISTICS)
    told = told.get('rows') if isinstance(told, dict) else None
    if isinstance(told, dict):
        rows.update({str(name): number for name, number in told.items()
                     if isinstance(number, (int, float)) and not isinstance(number, bool)})
    return rows


def _below(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def _count(number: Any) -> str:
    return '–' if number is None else f'{number:,}' if isinstance(number, int) else f'{number:,.1f}'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}'
