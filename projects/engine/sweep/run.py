"""Running a sweep: one trial after another, each an ordinary training process, with a state that outlives a kill."""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from projects.engine.config import load_config, nearest
from projects.engine.errors import REQUEUE, UserError
from projects.engine.files import write_json
from projects.engine.lock import locked
from projects.engine.options import read_options
from projects.engine.scalars import Scalars
from projects.engine.signals import answering
from projects.engine.sweep.definition import Sweep
from projects.engine.sweep.history import best_of, metric_history, should_stop
from projects.engine.sweep.results import write_results

VERSION = 1
MOST = 100_000  # trials of one sweep
PATIENCE = 300  # seconds that a trial has to save itself before it is killed
DONE = ('finished', 'stopped', 'failed')


@dataclass
class Trial:
    """One trial and how it went."""

    number: int
    parameters: dict[str, Any]
    status: str = 'running'  # then finished, stopped (early), preempted or failed
    reason: str | None = None
    process: int | None = None  # while it runs
    started: str | None = None
    seconds: float = 0.0
    best: float | None = None  # the metric's
    best_at: int | None = None  # iteration
    last: float | None = None
    values: list[float] = field(default_factory=list)  # everything the metric was, in order


@dataclass
class Outcome:
    """How a sweep ended."""

    trials: list[Trial]
    status: int  # for the shell: 0; 1 when a trial failed; 75 when it was interrupted and goes on when called again
    message: str


class Sweeper:
    """Runs the trials of a sweep below a directory.

    Args:
        sweep: What :func:`~projects.engine.sweep.definition.read_sweep` gave.
        work_dir: ``trial_<n>/``, ``trial_<n>.log``, ``sweep.json`` and ``results.csv`` go here.
        count: So many trials in all; default the sweep's ``run_cap``, or the whole grid.
        seed: Of the random draws.
        retry: Run trials again that have failed before.
        max_failures: So many failures in a row end the sweep.
        tell: Takes lines about the progress.
        poll: Seconds between two looks at a running trial.

    Raises:
        UserError: A random sweep has no end; the config does not take a parameter.
    """

    def __init__(self, sweep: Sweep, work_dir: str | Path, *, count: int | None = None, seed: int = 0,
                 retry: bool = False, max_failures: int = 3, tell: Callable[[str], None] = lambda line: None,
                 poll: float = 1.0) -> None:
        self.sweep, self.work_dir, self.seed = sweep, Path(work_dir).resolve(), seed
        self.retry, self.max_failures, self.tell, self.poll = retry, max_failures, tell, poll
        limits = [limit for limit in (count, sweep.run_cap, sweep.size()) if limit is not None]
        if not limits:
            raise UserError(f'sweep {sweep.path}: method random has no end: give it run_cap, or --count')
        number = min(limits)
        if number > MOST:
            raise UserError(f'sweep {sweep.path}: {number:,} trials, expected at most {MOST:,}: give it run_cap, or '
                            '--count')
        self.planned = sweep.trials(number, seed)
        self.folder = sweep.folder()
        self.trials: list[Trial] = []
        self._scalars: dict[int, Scalars] = {}  # of the running trial: what was read stays read
        self._asked: str | None = None  # the signal that asked the sweep to end

    def commands(self) -> list[list[str]]:
        """Return the command of every planned trial."""
        return [self.sweep.command_of(parameters, self._directory(number), resume=False)
                for number, parameters in enumerate(self.planned, 1)]

    def _ask(self, signal_name: str) -> None:
        self._asked = signal_name  # the trial is asked to save, then this call ends

    def check(self) -> None:
        """Build the config with every value that is listed: a misspelt path or a wrong value costs no trial.

        Of a range, whose values are all of one kind, the first drawn value stands for the others. Other programs than
        ``tools/train.py`` check their own arguments.
        """
        if Path(self.sweep.program).name != 'train.py':
            return
        config = next((self.folder / part for part in self.sweep.command
                       if part.endswith('.py') and (self.folder / part).is_file()), None)
        if config is None:
            return
        listed = {parameter.name for parameter in self.sweep.parameters if 'values' in parameter.options}
        seen: set[tuple[str, str]] = set()
        for number, parameters in enumerate(self.planned, 1):
            values = {(name, str(value) if name in listed else '') for name, value in parameters.items()}
            if values <= seen:
                continue
            seen |= values
            try:
                load_config(config, read_options(f'{name}={value}' for name, value in parameters.items()))
            except UserError as error:
                raise UserError(f'sweep {self.sweep.path}: trial {number}: {error}') from error

    def run(self) -> Outcome:
        """Run what is left of the sweep."""
        self.check()
        with locked(self.work_dir), answering(self._ask):
            self._read_state()
            for trial in self.trials:
                self._check_metric(trial)
            outcome = self._run_trials()
            write_results(self.trials, self.sweep.metric, self.work_dir)
            return outcome

    # ------------------------------------------------------------------------------------------------- the loop

    def _run_trials(self) -> Outcome:
        in_a_row = 0
        for number, parameters in enumerate(self.planned, 1):
            trial = next((trial for trial in self.trials if trial.number == number), None)
            if trial is not None and trial.status in DONE and not (self.retry and trial.status == 'failed'):
                continue
            if trial is None:
                trial = Trial(number, parameters)
                self.trials.append(trial)
            self._run_one(trial)
            write_results(self.trials, self.sweep.metric, self.work_dir)
            self.tell(f'trial {number}: {trial.status}{self._score(trial)}'
                      + (f' ({trial.reason})' if trial.reason else ''))
            self._check_metric(trial)
            if self._asked or trial.status == 'preempted':
                why = self._asked or f'trial {number} was pre-empted'
                return Outcome(self.trials, REQUEUE, f'{why}: call it again to go on')
            in_a_row = in_a_row + 1 if trial.status == 'failed' else 0
            if in_a_row >= self.max_failures:
                return Outcome(self.trials, 1, f'{in_a_row} trials in a row failed: look into '
                                               f'{self._log(trial)}, then go on with --retry')
            if self._on_target(trial):
                return Outcome(self.trials, self._status(), f'trial {number} has reached the target')
        return Outcome(self.trials, self._status(), f'{len(self.trials)} trials')

    def _check_metric(self, trial: Trial) -> None:
        """Stop a sweep whose metric nobody logs: it could neither sort nor stop trials."""
        metric = self.sweep.metric
        if metric is None or trial.status != 'finished' or any(other.best is not None for other in self.trials):
            return
        rows = Scalars(self._directory(trial.number)).rows()
        logged = {f'{row.kind}/{name}' for row in rows for name in row.values}
        raise UserError(f'sweep {self.sweep.path}: metric.name: trial {trial.number} finished and never logged '
                        f'{metric.name}{nearest(metric.name, logged)}')

    def _status(self) -> int:
        return 1 if any(trial.status == 'failed' for trial in self.trials) else 0

    def _on_target(self, trial: Trial) -> bool:
        metric = self.sweep.metric
        return bool(metric and metric.target is not None and trial.best is not None
                    and not metric.better(metric.target, trial.best))

    def _score(self, trial: Trial) -> str:
        return f', {self.sweep.metric.name} {trial.best:.4g}' if trial.best is not None else ''

    def _run_one(self, trial: Trial) -> None:
        """Start a trial, watch it, and write down how it ended."""
        resume = self._directory(trial.number).is_dir()
        command = self.sweep.command_of(trial.parameters, self._directory(trial.number), resume)
        self.tell(f'trial {trial.number} of {len(self.planned)}{" goes on" if resume else ""}: '
                  + ' '.join(f'{name}={value}' for name, value in trial.parameters.items()))
        trial.status, trial.reason = 'running', None
        trial.started = trial.started or datetime.now(UTC).isoformat(timespec='seconds')
        begun, before = time.monotonic(), trial.seconds
        stopped: str | None = None
        with open(self._log(trial), 'ab') as log:
            try:  # its own session: Ctrl-C reaches the sweep alone, which then asks the trial to save
                process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT,
                                           stdin=subprocess.DEVNULL, start_new_session=True)
            except OSError as error:
                raise UserError(f'sweep {self.sweep.path}: command: {error.strerror}: {error.filename}') from error
            trial.process = process.pid
            self._write_state()
            asked_at: float | None = None
            while process.poll() is None:
                if asked_at is None and (self._asked or (stopped := self._verdict(trial))):
                    asked_at = time.monotonic()
                    os.killpg(process.pid, signal.SIGTERM)  # the training saves, and leaves with status 75
                elif asked_at is not None and time.monotonic() - asked_at > PATIENCE:
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(self.poll)
                trial.seconds = round(before + time.monotonic() - begun, 1)
        trial.process = None
        self._read_metric(trial)
        self._scalars.clear()
        trial.status, trial.reason = self._end(process.returncode, stopped, trial)
        self._write_state()

    def _end(self, code: int, stopped: str | None, trial: Trial) -> tuple[str, str | None]:
        if code == 0:
            return 'finished', None
        ended = code in (REQUEUE, -signal.SIGTERM, -signal.SIGKILL)
        if stopped and ended:
            return 'stopped', stopped
        if code == REQUEUE or (self._asked and ended):
            return 'preempted', self._asked
        return 'failed', f'status {code}: {_last_line(self._log(trial))}'

    def _verdict(self, trial: Trial) -> str | None:
        """Read the running trial's metric; say why it should end, or nothing."""
        known = len(trial.values)
        self._read_metric(trial)
        if self.sweep.hyperband is None or len(trial.values) == known:
            return None
        others = [other.values for other in self.trials if other is not trial]
        return should_stop(trial.values, others, self.sweep.hyperband, self.sweep.metric)

    def _read_metric(self, trial: Trial) -> None:
        if self.sweep.metric is None:
            return
        scalars = self._scalars.setdefault(trial.number, Scalars(self._directory(trial.number)))
        history = metric_history(scalars, self.sweep.metric)
        if best := best_of(history, self.sweep.metric):
            trial.best_at, trial.best = best
            trial.values = [value for _, value in history]
            trial.last = trial.values[-1]

    # ------------------------------------------------------------------------------------------------- the state

    def _directory(self, number: int) -> Path:
        return self.work_dir / f'trial_{number}'

    def _log(self, trial: Trial) -> Path:
        return self.work_dir / f'trial_{trial.number}.log'

    @property
    def _identity(self) -> str:
        """A hash of what the trials depend on; the name, the run cap and the like may change."""
        keys = ('program', 'command', 'method', 'metric', 'parameters', 'early_terminate')
        value = [[key, self.sweep.source.get(key)] for key in keys] + [self.seed]
        return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()

    def _write_state(self) -> None:
        write_json(self.work_dir / 'sweep.json', {
            'version': VERSION, 'sweep': self.sweep.path.name, 'identity': self._identity, 'seed': self.seed,
            'planned': len(self.planned), 'trials': [asdict(trial) for trial in self.trials]})

    def _read_state(self) -> None:
        path = self.work_dir / 'sweep.json'
        if not path.is_file():
            return
        try:
            state = json.loads(path.read_text(encoding='utf-8'))
            version, identity = state['version'], state['identity']
            trials = [Trial(**row) for row in state['trials']] if version == VERSION else []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path}: not the state of a sweep ({type(error).__name__}: {error})') from error
        if version != VERSION:
            raise UserError(f'{path}: version: expected {VERSION}, found {version!r}')
        if identity != self._identity:
            raise UserError(f'{path}: belongs to another sweep or --seed (of {state.get("sweep")}, seed '
                            f'{state.get("seed")}); choose another --work-dir')
        for trial in trials:
            if trial.process is not None and _is_trial(trial.process, self._directory(trial.number)):
                raise UserError(f'{path}: trial {trial.number} of a killed sweep still runs (process {trial.process}); '
                                'wait for it, or end it')
        self.trials = trials
        if trials:
            done = sum(trial.status in DONE for trial in trials)
            self.tell(f'goes on: {done} of {len(self.planned)} trials are done')


def _is_trial(process: int, work_dir: Path) -> bool:
    """Say whether a process of that id still is the training of a work directory."""
    try:
        return os.fsencode(str(work_dir)) in Path(f'/proc/{process}/cmdline').read_bytes().split(b'\0')
    except OSError:
        return False


def _last_line(log: Path) -> str:
    """Return the last line that says something, an ``error:`` line before others."""
    text = log.read_text(encoding='utf-8', errors='replace')
    lines = [line.strip() for line in text.splitlines()[-50:] if line.strip()]
    told = [line for line in lines if line.startswith('error: ')] or lines
    return told[-1][:300] if told else 'it said nothing'
