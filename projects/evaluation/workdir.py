"""What a work directory tells about its run: facts, curves, evaluations, lineage and cost."""

import re
import subprocess
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.lineage_record import foreign_test, read_lineage
from projects.evaluation.curves import TIMESTAMP, Curves, finite, read_curves
from projects.evaluation.folder import read_evaluation
from projects.evaluation.result import Evaluation
from projects.evaluation.score_table import ScoreTable, read_score_tables

TRAINS = 'Checkpoints will be saved to'  # MMEngine's CheckpointHook at the start of a training, never of a test
CHECKPOINT = re.compile(r'iter_(\d+)\.pth\s*$')
STEP = re.compile(r'_(\d+)\.pth$')
STAGE = re.compile(r'[^_]+_s\d+-([^_]+)')
LOG_TIME = re.compile(r'^(\d{4}/\d{2}/\d{2} \d{2}:\d{2}:\d{2}) - ')


@dataclass
class Start:
    """One start of a training; a resume is another one."""

    began: datetime | None
    seconds: float | None
    status: str | None = None  # running, finished, preempted or failed; None where nothing tells
    reason: str | None = None
    from_iteration: int | None = None
    to_iteration: int | None = None


@dataclass
class Cost:
    """What a training took, over all its starts; None where nothing tells."""

    starts: list[Start] = field(default_factory=list)
    iterations: int | None = None
    seconds_per_iteration: float | None = None  # the median of what was logged
    memory_mib: float | None = None  # the most that a process held
    gpu_memory_mib: float | None = None
    energy_wh: float | None = None

    @property
    def seconds(self) -> float | None:
        known = [start.seconds for start in self.starts if start.seconds is not None]
        return sum(known) if known else None


@dataclass
class Run:
    """One work directory, read."""

    work_dir: Path
    name: str
    facts: list[tuple[str, str]]  # label, value; in the order to show
    curves: Curves
    evaluations: dict[str, tuple[Evaluation, dict[str, Any]]]  # 'test' and 'val' first, then others by name
    lineage: dict[str, Any] | None  # what lineage.json holds
    cost: Cost
    config_text: str | None  # the resolved config
    tables: dict[str, list[tuple[ScoreTable, dict[str, Any]]]] = field(default_factory=dict)  # as evaluations

    @property
    def stage(self) -> str:
        """The stage that lineage names, or the config's name does; else the config's name."""
        match = STAGE.match(self.name)
        return (self.lineage or {}).get('stage') or (match[1] if match else self.name)

    @property
    def seed(self) -> str | None:
        if self.lineage and self.lineage.get('seed') is not None:
            return str(self.lineage['seed'])
        return dict(self.facts).get('Seed')


def read_run(work_dir: str | Path) -> Run:
    """Read a work directory; whatever is missing is left out.

    Raises:
        UserError: there is no such folder, or neither scalars nor an evaluation in it.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise UserError(f'{work_dir}: no such work directory')
    curves = read_curves(work_dir)
    folder = work_dir / 'evaluation'
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    names.sort(key=lambda name: {'test': 0, 'val': 1}.get(name, 2))
    evaluations = {name: found for name in names if (found := read_evaluation(folder / name)) is not None}
    lineage = read_lineage(work_dir)
    tables = {name: found for name in names if (found := read_score_tables(folder / name))}
    foreign = foreign_test(lineage) if 'test' in evaluations or 'test' in tables else None
    if foreign:  # somebody else's score is no result of this run
        evaluations.pop('test', None)
        tables.pop('test', None)
    if not curves and not evaluations and not tables and lineage is None:
        raise UserError(f'{work_dir}: expected a run (<timestamp>/vis_data/scalars.json, evaluation/*/scores.json or '
                        'lineage.json), found none of them')
    configs = sorted(work_dir.glob('*.py'))
    cost = _cost(work_dir, curves, lineage)
    name = (lineage or {}).get('name') or (configs[0].stem if configs else work_dir.resolve().name)
    text = ((lineage or {}).get('config') or {}).get('text')
    if text is None and configs:
        text = configs[0].read_text(encoding='utf-8', errors='replace')
    facts = _facts(work_dir, configs, cost, lineage)
    if foreign:
        facts.append(('Test', f'left out: of {foreign}, weights that this run did not write'))
    return Run(work_dir, name, facts, curves, evaluations, lineage, cost, text, tables)


def _cost(work_dir: Path, curves: Curves, lineage: dict[str, Any] | None) -> Cost:
    """Read the cost from the lineage; from logs and scalars what it does not tell."""
    rows = [row for row in (lineage or {}).get('starts') or [] if isinstance(row, dict)]
    times = sorted(value for _, value in finite(curves.train.get('time', [])))
    memory = [value for _, value in finite(curves.train.get('memory', []))]
    cost = Cost(
        starts=[_start(row) for row in rows] or _logged_starts(work_dir),
        iterations=_iterations(work_dir, curves, rows) or None,
        seconds_per_iteration=times[len(times) // 2] if times else None,
        gpu_memory_mib=max(memory, default=None))
    for key, name, join in (('peak_memory_mib', 'memory_mib', max), ('gpu_memory_mib', 'gpu_memory_mib', max),
                            ('energy_wh', 'energy_wh', sum)):
        if known := [float(row[key]) for row in rows if row.get(key) is not None]:
            setattr(cost, name, join(known))
    return cost


def _start(row: dict[str, Any]) -> Start:
    began, ended = (_moment(row.get(key)) for key in ('started', 'ended'))
    seconds = row.get('seconds')
    if seconds is None and began and ended:
        seconds = (ended - began).total_seconds()
    return Start(began, seconds, row.get('status'), row.get('reason'), row.get('from_iteration'),
                 row.get('to_iteration'))


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except (TypeError, ValueError):
        return None


def _logged_starts(work_dir: Path) -> list[Start]:
    """Tell the starts from the folders and logs that MMEngine writes; how they ended is not among it."""
    return [Start(datetime.strptime(path.name, '%Y%m%d_%H%M%S'), _duration(path / f'{path.name}.log'))
            for path in _stamped(work_dir) if _trains(path)]


def _stamped(work_dir: Path) -> list[Path]:
    return sorted(path for path in work_dir.iterdir() if TIMESTAMP.match(path.name))


def _facts(work_dir: Path, configs: list[Path], cost: Cost, lineage: dict[str, Any] | None) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if configs:
        facts.append(('Config', ', '.join(path.name for path in configs)))
    stamped = _stamped(work_dir)
    if stamped:
        facts.append(('Started', datetime.strptime(stamped[0].name, '%Y%m%d_%H%M%S').strftime('%Y-%m-%d %H:%M')))
    if cost.seconds is not None and cost.iterations:
        many = f' in {len(cost.starts)} starts' if len(cost.starts) > 1 else ''
        facts.append(('Duration', str(timedelta(seconds=round(cost.seconds))) + many))
    if cost.iterations:
        facts.append(('Iterations', f'{cost.iterations:,}'))
    if cost.seconds_per_iteration is not None:
        facts.append(('Seconds per iteration', f'{cost.seconds_per_iteration:.3f}'))
    if cost.gpu_memory_mib:
        facts.append(('GPU memory', f'{cost.gpu_memory_mib / 1024:.1f} GiB'))
    logs = [path / f'{path.name}.log' for path in stamped if (path / f'{path.name}.log').is_file()]
    found = _environment(logs[0]) if logs else []
    if hardware := _hardware((lineage or {}).get('hardware') or {}):
        found = [hardware, *(fact for fact in found if fact[0] != 'Hardware')]
    facts += found
    if best := _best_checkpoint(work_dir):
        facts.append(('Best checkpoint', best))
    if not (lineage or {}).get('code') and (commit := _commit()):
        facts.append(('Code at this report', commit))
    return facts


def _hardware(told: dict[str, Any]) -> tuple[str, str] | None:
    """Write the lineage's hardware: the GPUs, or the processor where there is none."""
    if told.get('gpus'):
        return 'Hardware', ', '.join(str(name) for name in told['gpus'])
    if not told.get('cpu'):
        return None
    return 'Hardware', f'{told["cpu"]}' + (f', {told["cores"]} cores' if told.get('cores') else '')


def _best_checkpoint(work_dir: Path) -> str | None:
    """The best checkpoint of the furthest step: an older one that is still there was overtaken."""
    found = {path.name: match for path in work_dir.glob('best_*.pth') if (match := STEP.search(path.name))}
    return max(found, key=lambda name: int(found[name][1]), default=None)


def _iterations(work_dir: Path, curves: Curves, rows: list[dict[str, Any]]) -> int:
    """How far the run came, 0 where nothing tells: the last lines are often between two logged ones."""
    steps = [row['to_iteration'] for row in rows[-1:] if isinstance(row.get('to_iteration'), int)]
    steps += [points[-1][0] for series in (curves.train, curves.validation) for points in series.values() if points]
    pointer = work_dir / 'last_checkpoint'
    if pointer.is_file() and (match := CHECKPOINT.search(pointer.read_text(encoding='utf-8', errors='replace'))):
        steps.append(int(match.group(1)))
    return max(steps, default=0)


def _trains(start: Path) -> bool:
    """Say whether a start was a training: it logged scalars, or was too short to but has announced checkpoints."""
    log = start / f'{start.name}.log'
    return (start / 'vis_data' / 'scalars.json').is_file() or (
        log.is_file() and TRAINS in log.read_text(encoding='utf-8', errors='replace'))


def _duration(log: Path) -> float | None:
    """Seconds between the first and the last line of a log."""
    if not log.is_file():
        return None
    times = [match.group(1) for line in log.read_text(encoding='utf-8', errors='replace').splitlines()
             if (match := LOG_TIME.match(line))]
    if len(times) < 2:
        return None
    first, last = (datetime.strptime(text, '%Y/%m/%d %H:%M:%S') for text in (times[0], times[-1]))
    return (last - first).total_seconds()


def _environment(log: Path) -> list[tuple[str, str]]:
    """Hardware, versions and seed from the block that MMEngine logs at the start."""
    text = log.read_text(encoding='utf-8', errors='replace')[:20000]
    found: list[tuple[str, str]] = []
    gpus = re.findall(r'^\s+GPU [\d,]+: (.+)$', text, re.MULTILINE)
    if gpus:
        found.append(('Hardware', ', '.join(gpus)))
    elif re.search(r'^\s+CUDA available: False', text, re.MULTILINE):
        found.append(('Hardware', 'CPU'))
    workers = re.search(r'^\s+GPU number: (\d+)', text, re.MULTILINE)  # MMEngine's name for the world size
    if workers and int(workers.group(1)) > 1:
        found.append(('Processes', workers.group(1)))
    for label, pattern in (('PyTorch', r'^\s+PyTorch: (\S+)'), ('Python', r'^\s+Python: (\S+)'),
                           ('Seed', r'^\s+seed: (\d+)')):
        if match := re.search(pattern, text, re.MULTILINE):
            found.append((label, match.group(1)))
    return found


def _commit() -> str | None:
    """Short commit of the checkout this code runs from, with a mark when it has changes."""
    try:
        done = subprocess.run(
            ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty', '--exclude=*'],
            capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().replace('-dirty', ' with local changes') or None
