"""What a work directory tells about its run: facts, curves and evaluations."""

import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.evaluation.curves import TIMESTAMP, Curves, read_curves
from projects.evaluation.folder import read_evaluation
from projects.evaluation.result import Evaluation

TRAINS = 'Checkpoints will be saved to'  # MMEngine's CheckpointHook at the start of a training, never of a test
CHECKPOINT = re.compile(r'iter_(\d+)\.pth\s*$')
LOG_TIME = re.compile(r'^(\d{4}/\d{2}/\d{2} \d{2}:\d{2}:\d{2}) - ')


@dataclass
class Run:
    """One work directory, read."""

    work_dir: Path
    name: str
    facts: list[tuple[str, str]]  # label, value; in the order to show
    curves: Curves
    evaluations: dict[str, tuple[Evaluation, dict[str, Any]]]  # 'test' and 'val' first, then others by name


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
    if not curves and not evaluations:
        raise UserError(f'{work_dir}: expected a run (<timestamp>/vis_data/scalars.json or evaluation/*/scores.json), '
                        'found neither')
    configs = sorted(work_dir.glob('*.py'))
    name = configs[0].stem if configs else work_dir.resolve().name
    return Run(work_dir, name, _facts(work_dir, configs, curves), curves, evaluations)


def _facts(work_dir: Path, configs: list[Path], curves: Curves) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if configs:
        facts.append(('Config', ', '.join(path.name for path in configs)))
    starts = sorted(path for path in work_dir.iterdir() if TIMESTAMP.match(path.name))
    if starts:
        facts.append(('Started', datetime.strptime(starts[0].name, '%Y%m%d_%H%M%S').strftime('%Y-%m-%d %H:%M')))
    iterations = _iterations(work_dir, curves)
    seconds = [length for path in starts if _trains(path)
               and (length := _duration(path / f'{path.name}.log')) is not None]
    if seconds and iterations:
        text = str(timedelta(seconds=round(sum(seconds))))
        facts.append(('Duration', text + (f' in {len(seconds)} starts' if len(seconds) > 1 else '')))
    if iterations:
        facts.append(('Iterations', f'{iterations:,}'))
    if times := [value for _, value in curves.train.get('time', [])]:
        facts.append(('Seconds per iteration', f'{sorted(times)[len(times) // 2]:.3f}'))
    if memory := [value for _, value in curves.train.get('memory', [])]:
        facts.append(('GPU memory', f'{max(memory) / 1024:.1f} GiB'))
    logs = [path / f'{path.name}.log' for path in starts if (path / f'{path.name}.log').is_file()]
    if logs:
        facts += _environment(logs[0])
    if best := sorted(path.name for path in work_dir.glob('best_*.pth')):
        facts.append(('Best checkpoint', best[-1]))
    if commit := _commit():
        facts.append(('Code at this report', commit))
    return facts


def _iterations(work_dir: Path, curves: Curves) -> int:
    """How far the run came, 0 where nothing tells: the last lines are often between two logged ones."""
    steps = [points[-1][0] for series in (curves.train, curves.validation) for points in series.values() if points]
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
