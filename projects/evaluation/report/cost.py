"""The cost section: time, memory, energy, and how each start of a run ended."""

from collections.abc import Sequence
from datetime import timedelta

from projects.evaluation.report.page import Section, note, table, text
from projects.evaluation.workdir import Cost, Run, Start


def cost_section(runs: Sequence[tuple[str, Run]]) -> list[Section]:
    """Return what each run took, columns that nothing tells left out, and its starts where there is more to say."""
    runs = [(label, run) for label, run in runs if run.cost.starts or run.cost.iterations]
    if not runs:
        return []
    columns = [(heading, [write(run.cost) for _, run in runs]) for heading, write in COLUMNS]
    shown = [(heading, cells) for heading, cells in columns if any(cells)]
    rows = [f'<th scope="row">{text(label)}</th>' + ''.join(f'<td>{text(cells[row] or "–")}</td>' for _, cells in shown)
            for row, (label, _) in enumerate(runs)]
    seconds = [run.cost.seconds for _, run in runs]
    energy = [run.cost.energy_wh for _, run in runs]
    if len(runs) > 1:
        total = {'time': _time(sum(filter(None, seconds))) if any(seconds) else '',
                 'energy': _energy(sum(filter(None, energy))) if any(energy) else ''}
        rows.append('<th scope="row">together</th>' + ''.join(
            f'<td>{text(total.get(heading, ""))}</td>' for heading, _ in shown))
    missing = [heading for heading, cells in columns if not any(cells) and heading in ('memory', 'energy')]
    words = f'Not recorded: {", ".join(missing)}.' if missing else ''
    if all(start.status is None for _, run in runs for start in run.cost.starts):
        words = f'{words} How the starts ended is not recorded either.' if words else 'How the starts ended is not ' \
            'recorded.'
    return [('cost', 'Cost', table(['run', *(heading for heading, _ in shown)], rows)
             + _starts(runs) + (note(words) if words else ''))]


def _starts(runs: Sequence[tuple[str, Run]]) -> str:
    """Return a table of all starts, when a run was started again or did not finish."""
    told = [(label, run.cost.starts) for label, run in runs
            if len(run.cost.starts) > 1 or any(start.status in ('failed', 'preempted') for start in run.cost.starts)]
    rows = [
        f'<th scope="row">{text(label)}</th><td>{number}</td><td>{_began(start)}</td><td>{_reach(start)}</td>'
        f'<td>{text(_time(start.seconds) or "–")}</td><td class="words">{_end(start)}</td>'
        for label, starts in told for number, start in enumerate(starts, 1)]
    if not rows:
        return ''
    return '<h3>Starts</h3>' + table(
        ['run', 'start', 'began', 'iterations', 'time', '<th scope="col" class="words">ended</th>'], rows)


def _began(start: Start) -> str:
    return start.began.strftime('%Y-%m-%d %H:%M') if start.began else '–'


def _reach(start: Start) -> str:
    if start.to_iteration is None:
        return f'from {start.from_iteration:,}' if start.from_iteration is not None else '–'
    return f'{start.from_iteration or 0:,} – {start.to_iteration:,}'


def _end(start: Start) -> str:
    if start.status is None:
        return '<span class="none">not recorded</span>'
    reason = f' ({text(start.reason)})' if start.reason else ''
    if start.status == 'running':
        return 'still running, or killed' + reason
    return f'<span class="bad">failed</span>{reason}' if start.status == 'failed' else text(start.status) + reason


def _time(seconds: float | None) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds is not None else ''


def _memory(mebibytes: float | None) -> str:
    return f'{mebibytes / 1024:.1f} GiB' if mebibytes else ''


def _energy(watt_hours: float | None) -> str:
    if watt_hours is None:
        return ''
    return f'{watt_hours / 1000:.2f} kWh' if watt_hours >= 1000 else f'{watt_hours:.3g} Wh'


def _ends(cost: Cost) -> str:
    number = len(cost.starts)
    last = cost.starts[-1].status if cost.starts else None
    return (f'{number}' + (f', {last}' if last else '')) if number else ''


COLUMNS = (
    ('time', lambda cost: _time(cost.seconds)),
    ('iterations', lambda cost: f'{cost.iterations:,}' if cost.iterations else ''),
    ('s / iteration', lambda cost: f'{cost.seconds_per_iteration:.3f}' if cost.seconds_per_iteration else ''),
    ('memory', lambda cost: _memory(cost.memory_mib)),
    ('GPU memory', lambda cost: _memory(cost.gpu_memory_mib)),
    ('energy', lambda cost: _energy(cost.energy_wh)),
    ('starts', _ends),
)
