"""The lineage section: every stage back to its data, as a chain that can be read from top to bottom."""

from collections.abc import Iterator, Sequence
from typing import Any

from projects.engine.lineage_record import foreign_test
from projects.evaluation.report.page import Section, note, text
from projects.evaluation.tables import percent
from projects.evaluation.workdir import Run

ROLES = {'load_from': 'starts from', 'initialise': 'starts from', 'teacher': 'is taught by'}


def lineage_section(runs: Sequence[Run]) -> list[Section]:
    """Return the chain of all runs: data, weights from elsewhere and stages, parents before children.

    Ancestors whose work directories were not given are known from what their children wrote down.
    """
    known = [run for run in runs if run.lineage]
    silent = [run.work_dir.resolve().name for run in runs if not run.lineage]
    words = note(f'No lineage.json in {", ".join(silent)}: where it came from is not known.') if silent else ''
    if not known:
        return [('lineage', 'Lineage', words)]
    given = {run.lineage.get('run_id') for run in known}
    nodes: dict[str, dict[str, Any]] = {}
    for run in known:
        for lineage in _with_ancestors(run.lineage):
            identity = str(lineage.get('run_id'))
            if identity not in nodes or lineage is run.lineage:
                nodes[identity] = lineage  # the run's own file is newer than what a child wrote down at its start
    cards: list[str] = []
    seen: set[str] = set()
    for identity, lineage in nodes.items():
        for data in lineage.get('data') or []:
            if (key := f'data {data.get("name")} {data.get("sha256")}') not in seen:
                seen.add(key)
                cards.append(_data_card(data))
        for parent in lineage.get('parents') or []:
            if not parent.get('lineage') and (key := f'file {parent.get("sha256") or parent.get("file")}') not in seen:
                seen.add(key)
                cards.append(_file_card(parent))
        cards.append(_stage_card(lineage, nodes, here=identity in given))
    return [('lineage', 'Lineage', f'<ol class="chain">{"".join(cards)}</ol>{words}')]


def _with_ancestors(lineage: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the lineages of all ancestors, the oldest first, then the run's own."""
    for parent in lineage.get('parents') or []:
        if parent.get('lineage'):
            yield from _with_ancestors(parent['lineage'])
    yield lineage


def _card(kind: str, title: str, lines: Sequence[str]) -> str:
    return (f'<li class="{kind}"><div class="card"><p class="what">{text(kind)}</p><p class="title">{text(title)}</p>'
            + ''.join(f'<p>{line}</p>' for line in lines if line) + '</div></li>')


def _data_card(data: dict[str, Any]) -> str:
    counts = data.get('splits') or {}
    order = {'train': 0, 'val': 1, 'test': 2}
    splits = ' · '.join(f'{text(name)} {counts[name]:,}' for name in sorted(counts, key=lambda n: order.get(n, 3)))
    return _card('data', str(data.get('name') or data.get('manifest') or 'data set'), [
        splits, _joined(text(data.get('manifest') or ''), _hash(data.get('sha256'))),
        f'taxonomy {_hash(data.get("taxonomy_hash"))}' if data.get('taxonomy_hash') else ''])


def _file_card(parent: dict[str, Any]) -> str:
    return _card('weights', str(parent.get('file')), [
        'from elsewhere: no lineage beside it', _hash(parent.get('sha256'))])


def _stage_card(lineage: dict[str, Any], nodes: dict[str, dict[str, Any]], here: bool) -> str:
    config, code = lineage.get('config') or {}, lineage.get('code') or {}
    commit = ''
    if code.get('commit'):
        commit = f'commit <code>{text(str(code["commit"])[:10])}</code>'
        if code.get('dirty'):
            commit += f' <span class="bad">with local changes</span> {_hash(code.get("diff_sha256"), 8)}'
    versions = lineage.get('versions') or {}
    title = f'{lineage.get("stage") or "train"}: {lineage.get("name") or "?"}'
    return _card('stage', title, [
        *(_parent_line(parent, nodes) for parent in lineage.get('parents') or []),
        _joined(f'config {text(config.get("file") or "")} {_hash(config.get("sha256"))}' if config else '', commit),
        _joined(f'seed {text(lineage["seed"])}' if lineage.get('seed') is not None else '',
                f'run {text(lineage.get("run_id"))}', _when(lineage),
                f'PyTorch {text(versions["torch"])}' if versions.get('torch') else ''),
        _scores(lineage.get('metrics') or {}, foreign_test(lineage)),
        *_changes(lineage),
        '' if here else '<span class="none">not among the directories of this report</span>'])


def _parent_line(parent: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> str:
    inner = parent.get('lineage') or {}
    whose = f' of <b>{text(inner.get("stage") or inner.get("name"))}</b>' if inner else ''
    line = (f'{ROLES.get(parent.get("role"), text(parent.get("role")))} <code>{text(parent.get("file"))}</code>{whose} '
            + _hash(parent.get('sha256')))
    known = (nodes.get(str(inner.get('run_id'))) or {}).get('checkpoints') or {}
    own = (known.get(parent.get('file')) or {}).get('sha256')
    if own and parent.get('sha256'):
        line += (' <span class="good">the very file that stage wrote</span>' if own == parent['sha256']
                 else ' <span class="bad">not the file that stage wrote: it has another hash</span>')
    return line


def _when(lineage: dict[str, Any]) -> str:
    starts = lineage.get('starts') or []
    if not starts:
        return ''
    first = str(starts[0].get('started') or '')[:16].replace('T', ' ')
    status = starts[-1].get('status')
    shown = text(status or '')
    if status == 'failed':
        shown = f'<span class="bad">failed</span> {text(starts[-1].get("reason") or "")}'
    return _joined(f'started {text(first)} UTC' if first else '', shown)


def _changes(lineage: dict[str, Any]) -> Iterator[str]:
    """Say what a resume found changed."""
    for number, start in enumerate(lineage.get('starts') or [], 1):
        if start.get('changed'):
            keys = ', '.join(f'<code>{text(key)}</code>' for key in start['changed'])
            yield f'<span class="bad">changed before start {number}:</span> {keys}'


def _scores(metrics: dict[str, Any], foreign: str | None) -> str:
    """Write the best validation and the test of a lineage's metrics, where they are numbers."""
    parts = []
    best = metrics.get('best') or {}
    chosen = 'mIoU'
    for name, value in best.items():
        if name != 'step' and isinstance(value, int | float):
            chosen = name
            step = f' at iteration {best["step"]:,}' if isinstance(best.get('step'), int) else ''
            parts.append(f'best validation {text(name)} {percent(value)}{step}')
            break
    tested = metrics.get('test') or {}
    chosen = chosen if chosen in tested else 'mIoU'
    test = tested.get(chosen)
    if isinstance(test, int | float) and not foreign:
        parts.append(f'test {text(chosen)} {percent(test)}')
    if foreign:
        parts.append(f'<span class="bad">tested was {text(foreign)}, weights that this run did not write</span>')
    return _joined(*parts)


def _hash(value: Any, length: int = 12) -> str:
    """Write the beginning of a hash; the whole of it on hover."""
    return f'<code title="{text(value)}">{text(str(value)[:length])}</code>' if value else ''


def _joined(*parts: str) -> str:
    return ' · '.join(part.strip() for part in parts if part.strip())
