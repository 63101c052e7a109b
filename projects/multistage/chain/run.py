"""Running a chain: what is complete and unchanged is left alone, what was interrupted goes on, the rest is done."""

import json
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from projects.engine.errors import REQUEUE, UserError
from projects.engine.files import remove_leftovers, write_json
from projects.engine.signals import answering
from projects.multistage.chain.commands import command_of, unfilled
from projects.multistage.chain.contents import content_hash
from projects.multistage.chain.definition import Chain, filled, needs_of, results_of
from projects.multistage.chain.fingerprint import (
    Fingerprint,
    differences,
    fingerprint_of,
    input_values,
    stage_config,
    tool_config,
)
from projects.multistage.chain.gates import judge
from projects.multistage.chain.process import Ended, end_left_behind, last_line, live_line, run_process, status_of
from projects.multistage.chain.results import file_hash, tool_result, training_result
from projects.multistage.chain.stages import ROOT, Stage, ToolStage, TrainStage, WaitStage
from projects.multistage.chain.state import ChainState, holding

DONE, FAILED, WAITING, INTERRUPTED = 0, 1, 3, 130
NO_RESULT = ('config', 'options')  # of a TrainStage: texts that need no run


@dataclass(frozen=True)
class Decision:
    """What is to be done about a stage, and why.

    ``action`` is ``skip`` (complete and unchanged), ``run``, ``resume`` (goes on in its directory), ``redo`` (what is
    there is set aside first), ``wait`` (for a person) or ``follow`` (known only when an earlier stage is done).
    """

    action: str
    why: str = ''
    fingerprint: Fingerprint | None = None
    accepted: tuple[str, ...] = ()  # differences that --accept-code takes for none


@dataclass
class Outcome:
    """How a call ended."""

    status: int  # for the shell: 0; 1 failed, or a gate stopped it; 3 waits for a person; 75 or 130 interrupted
    message: str


@dataclass
class Choice:
    """Which stages a call is about, and how they run."""

    start: str | None = None  # from this stage on
    until: str | None = None  # up to this one, itself included
    only: str | None = None
    launcher: str = 'none'
    gpus: int | None = None
    stop_at_gates: bool = False
    accept_code: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)  # of all trainings


class ChainRunner:
    """Runs a chain below a directory: ``<stage>/``, ``<stage>.log``, ``chain.json`` and the tables go there.

    Args:
        chain: What :func:`~projects.multistage.chain.definition.read_chain` gave.
        work_dir: The directory.
        choice: Which stages, and how.
        tell: Takes lines about the progress.
        poll: Seconds between two looks at a running stage.

    Raises:
        UserError: A chosen stage does not exist, or ``until`` comes before ``start``; the directory belongs to
            another chain.
    """

    def __init__(self, chain: Chain, work_dir: str | Path, choice: Choice | None = None, *,
                 tell: Callable[[str], None] = lambda line: None, poll: float = 0.5) -> None:
        self.chain, self.work_dir, self.choice = chain, Path(work_dir).resolve(), choice or Choice()
        self.tell, self.poll = tell, poll
        names = [stage.name for stage in chain.stages]
        for key in ('start', 'until', 'only'):
            if (name := getattr(self.choice, key)) is not None:
                chain.stage(name)
        if self.choice.only and (self.choice.start or self.choice.until):
            raise UserError('--only: stands alone, without --from and --until')
        first = names.index(self.choice.only or self.choice.start or names[0])
        last = names.index(self.choice.only or self.choice.until or names[-1])
        if last < first:
            raise UserError(f'--until {self.choice.until}: comes before --from {self.choice.start}')
        self.chosen = chain.stages[first:last + 1]
        self.state = ChainState(self.work_dir, chain.name)
        self._asked: str | None = None  # the signal that asked this call to end
        self._fingerprints: dict[str, Fingerprint] = {}  # without parents, since the last process ended

    # ------------------------------------------------------------------------------------------------- what is known

    def directory(self, name: str) -> Path:
        """Return a stage's directory."""
        return self.work_dir / name

    def values(self, stage: Stage) -> dict[str, str]:
        """Return the values of all templates that are known, as one stage sees them."""
        found = {**input_values(self.chain), 'root': str(ROOT), 'dir': str(self.directory(stage.name))}
        for other in self.chain.stages:
            folder = self.directory(other.name)
            if isinstance(other, WaitStage):
                found[f'{other.name}.file'] = filled(other.file, found)
                continue
            found[f'{other.name}.dir'] = str(folder)
            if isinstance(other, TrainStage):
                found[f'{other.name}.config'] = str((self.chain.path.parent / other.config).resolve())
                result = self.result(other.name) or {}
                found.update({f'{other.name}.{key}': str(folder / result[key])
                              for key in ('best', 'last') if result.get(key)})
        return found

    def result(self, name: str) -> dict[str, Any] | None:
        """Return a complete stage's result; None of another one."""
        entry = self.state.get(name)
        return entry.get('result') if entry and entry['status'] == 'complete' else None

    def missing(self, stage: Stage) -> str | None:
        """Name what a complete stage should have left and has not, or what is waited for; None when all is there."""
        if isinstance(stage, WaitStage):
            file = Path(self.values(stage)[f'{stage.name}.file']).expanduser()
            return None if file.is_file() and file.stat().st_size else str(file)
        result, folder = self.result(stage.name), self.directory(stage.name)
        if result is None:
            return 'a result'
        if isinstance(stage, TrainStage):
            used = {'best', *(what for other in self.chain.stages for name, what in results_of(other)
                              if name == stage.name and what == 'last')}
            return next((result[key] for key in sorted(used) if not (folder / result[key]).is_file()), None)
        return self._missing_output(stage)

    def _missing_output(self, stage: ToolStage) -> str | None:
        outputs = filled(list(stage.outputs), self.values(stage))
        return next((name for name in outputs if not (self.directory(stage.name) / name).exists()), None)

    def is_complete(self, stage: Stage) -> bool:
        """Say whether a stage has been done, whatever has changed since."""
        return self.missing(stage) is None

    def content(self, stage: Stage, what: str) -> str | None:
        """Return the hash of a stage's result: of its best (or last) checkpoint, its outputs, its file."""
        if isinstance(stage, WaitStage):
            return content_hash(self.values(stage)[f'{stage.name}.file'])
        folder, result = self.directory(stage.name), self.result(stage.name) or {}
        if isinstance(stage, TrainStage):
            name = result.get('last' if what == 'last' else 'best')
            return name and file_hash(folder / name, (result.get('files') or {}).get(name))
        outputs = [content_hash(folder / name) for name in filled(list(stage.outputs), self.values(stage))]
        return outputs[0] if len(outputs) == 1 else ' '.join(map(str, outputs))

    def parents(self, stage: Stage) -> dict[str, str | None]:
        """Return the content of every result that a stage uses."""
        return {f'{name}.last' if what == 'last' else name: self.content(self.chain.stage(name), what)
                for name, what in results_of(stage) if what not in NO_RESULT}

    def fingerprint(self, stage: TrainStage | ToolStage, parents: bool = False) -> Fingerprint:
        """Return a stage's fingerprint as things stand, its parents left out or not; see :func:`fingerprint_of`."""
        if stage.name not in self._fingerprints:
            self._fingerprints[stage.name] = fingerprint_of(stage, self.chain, self.choice.options, {})
        found = self._fingerprints[stage.name]
        return replace(found, parents=self.parents(stage)) if parents else found

    # ------------------------------------------------------------------------------------------------- decisions

    def _ask(self, signal_name: str) -> None:
        self._asked = signal_name  # the stage is asked to save, then this call ends

    def check(self) -> None:
        """Build every chosen stage's config and look for its data: a mistake costs no training.

        Raises:
            UserError: What is wrong.
        """
        for stage in self.chosen:
            if not isinstance(stage, WaitStage):
                self.fingerprint(stage)

    def decide(self, stage: Stage, open_stages: frozenset[str] = frozenset()) -> Decision:
        """Say what is to be done about a stage as things stand.

        Args:
            stage: The stage.
            open_stages: Earlier ones that will be run before it: whether it changes is not known yet.
        """
        before = [name for name in needs_of(stage) if name in open_stages]
        if isinstance(stage, WaitStage):
            if before:
                return Decision('follow', f'after {", ".join(before)}')
            missing = self.missing(stage)
            if missing is None:
                return Decision('skip', 'its file is there')
            old = self._set_aside_file(Path(missing))
            return Decision('wait', f'for {missing}' + (
                f' (an earlier one, of what has been done anew since: {old})' if old else ''))
        entry, folder = self.state.get(stage.name), self.directory(stage.name)
        if before:
            return Decision('follow', f'after {", ".join(before)}' + ('' if entry is None else '; unless they give the '
                                                                      'same again'))
        now = self.fingerprint(stage, parents=True)
        if entry is None:
            there = folder.exists()
            return Decision('redo' if there else 'run', 'its directory is not of this chain' if there else '', now)
        changed = differences(entry['fingerprint'], now, self._details(stage.name, entry))
        accepted = tuple(one for one in changed if self.choice.accept_code and one.partition(' ')[0] == 'code')
        changed = [one for one in changed if one not in accepted]
        if changed:
            return Decision('redo', f'changed: {", ".join(changed)}', now)
        if entry['status'] == 'complete':
            missing = self.missing(stage)
            if missing is None:
                return Decision('skip', 'complete and unchanged', now, accepted)
            return Decision('redo', f'{missing} is missing', now)
        keeps = isinstance(stage, TrainStage) or stage.resumable
        if not folder.exists():
            return Decision('run', '', now)
        why = {'running': 'killed'}.get(entry['status'], entry['status'])
        return Decision('resume' if keeps else 'redo', why, now, accepted)

    def plan(self) -> list[tuple[Stage, Decision]]:
        """Return every stage of this call with what will be done about it, as far as that is known now.

        Raises:
            UserError: A needed stage before the first chosen one is not complete.
        """
        self.check()
        self._check_needed()
        open_stages: frozenset[str] = frozenset()
        found = []
        for stage in self.chosen:
            decision = self.decide(stage, open_stages)
            if decision.action != 'skip':
                open_stages |= {stage.name}
            found.append((stage, decision))
        return found

    def command(self, stage: Stage) -> list[str]:
        """Return a stage's command; templates of results that are not there yet stay in it."""
        return command_of(stage, self.chain, self.choice.options, self.values(stage), launcher=self.choice.launcher,
                          gpus=self.choice.gpus)

    def _check_needed(self) -> None:
        names = {stage.name for stage in self.chosen}
        for stage in self.chosen:
            for name in needs_of(stage):
                if name not in names and not self.is_complete(self.chain.stage(name)):
                    option = f'--only {stage.name}' if self.choice.only else f'--from {self.choice.start}'
                    raise UserError(f'{option}: {stage.name} needs {name}, which is not complete in {self.work_dir}')

    # ------------------------------------------------------------------------------------------------- running

    def run(self) -> Outcome:
        """Run what is left of the chosen stages.

        Raises:
            UserError: Something that the user can mend; before the first stage starts, as far as it can be known.
        """
        self.check()
        with holding(self.work_dir, [stage.name for stage in self.chain.stages], self.choice.only), \
                answering(self._ask):
            self.state.read_again()
            if self.choice.only is None:
                remove_leftovers(self.work_dir)
            self._check_needed()
            for stage in self.chosen:
                outcome = self._run_stage(stage)
                if outcome is not None:
                    return outcome
            return Outcome(DONE, f'{len(self.chosen)} stage{"s" * (len(self.chosen) > 1)} complete')

    def _run_stage(self, stage: Stage) -> Outcome | None:
        """Bring one stage to its end; return an outcome where the call ends here."""
        if self._asked:
            return self._interrupted(stage)
        if isinstance(stage, WaitStage):
            decision = self.decide(stage)
            if decision.action == 'wait':
                text = filled(stage.text, self.values(stage))
                return Outcome(WAITING, f'{stage.name} waits {decision.why}: {text} (then the same command goes on)')
            self.tell(f'{stage.name}: {decision.why}')
            return None
        group = isinstance(stage, ToolStage)
        if (entry := self.state.get(stage.name)) and entry['status'] == 'running' and entry.get(
                'host') == socket.gethostname():
            end_left_behind(self.directory(stage.name), self.tell, group, self.poll)
        decision = self.decide(stage)
        if decision.action == 'skip':
            self.tell(f'{stage.name}: {decision.why}, skipped')
            self._accept(stage, decision)
        else:
            outcome = self._execute(stage, decision, group)
            if outcome is not None:
                return outcome
        return self._judge(stage)

    def _accept(self, stage: Stage, decision: Decision) -> None:
        if decision.accepted:
            entry = dict(self.state.get(stage.name))
            entry['accepted'] = [*entry.get('accepted', ()), {'what': list(decision.accepted), 'when': _now(),
                                                              'code': entry['fingerprint']['code']}]
            entry['fingerprint'] = decision.fingerprint.record()
            self._write_details(stage.name, decision.fingerprint)
            self.state.put(stage.name, entry)
            self.tell(f'{stage.name}: accepted as unchanged: {", ".join(decision.accepted)}')

    def _execute(self, stage: TrainStage | ToolStage, decision: Decision, group: bool) -> Outcome | None:
        name, folder, log = stage.name, self.directory(stage.name), self.work_dir / f'{stage.name}.log'
        if decision.action == 'redo' and self._clear(stage, self.state.get(name)):
            self.tell(f'{name}: {decision.why}: begins anew, what it left is deleted')
        elif decision.action == 'redo' and (aside := self._set_aside(name)):
            self.tell(f'{name}: {decision.why}: set aside as {aside}, done anew')
        elif decision.action == 'resume':
            self.tell(f'{name}: {decision.why}: goes on')
        else:
            self.tell(f'{name}: begins{f" ({decision.why})" if decision.why else ""}')
        command = self.command(stage)
        if left := unfilled(command):
            raise UserError(f'chain {self.chain.path}: stages.{name}: {", ".join(left)} is not there')
        before = self.state.get(name) if decision.action == 'resume' else None
        entry = {'status': 'running', 'fingerprint': decision.fingerprint.record(),
                 'started': (before or {}).get('started') or _now(), 'ended': None,
                 'seconds': (before or {}).get('seconds', 0.0),
                 'cpu_seconds': (before or {}).get('cpu_seconds', 0.0),
                 'starts': (before or {}).get('starts', 0) + 1, 'reason': None, 'process': None,
                 'host': socket.gethostname(), 'command': command,
                 'result': None, 'gate': None}
        if decision.accepted:
            entry['accepted'] = [{'what': list(decision.accepted), 'when': _now()}]
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._write_details(name, decision.fingerprint)
        self.state.put(name, entry)  # before the directory: one without an entry is somebody else's
        folder.mkdir(parents=True, exist_ok=True)
        show = live_line(name)
        ended = run_process(command, log, folder, lambda: self._asked,
                            lambda process: self.state.put(name, {**entry, 'process': process}),
                            group=group, poll=self.poll, show=show)
        self._fingerprints.clear()  # files may be others by now
        if show:
            show('')
        entry.update(ended=_now(), seconds=round(entry['seconds'] + ended.seconds, 1),
                     cpu_seconds=round(entry['cpu_seconds'] + ended.cpu_seconds, 1))
        return self._close(stage, entry, ended, decision.fingerprint)

    def _close(self, stage: TrainStage | ToolStage, entry: dict[str, Any], ended: Ended,
               fingerprint: Fingerprint) -> Outcome | None:
        name, log = stage.name, self.work_dir / f'{stage.name}.log'
        fine = ended.code in (stage.ok if isinstance(stage, ToolStage) else (0,))
        reason, result = None, None
        if fine:
            result = self._collect(stage)
            missing = 'its checkpoint' if result is None else (
                self._missing_output(stage) if isinstance(stage, ToolStage) else None)
            if missing:
                fine, reason = False, f'ended well, but {missing} is missing'
        if fine:
            entry.update(status='complete', result=result)
            self.state.put(name, entry)
            self.tell(f'{name}: complete after {_duration(entry["seconds"])}{_scores(result)}')
            changed = [path for path, content in fingerprint.data.items() if content_hash(path) != content]
            if changed:
                self.tell(f'warning: {name}: {", ".join(changed)} has changed while it ran: what reads that is done '
                          'anew with the next call')
            return None
        if ended.asked and ended.code != 0 or ended.code == REQUEUE:
            entry.update(status='interrupted', reason=ended.asked or 'pre-empted')
            self.state.put(name, entry)
            return self._interrupted(stage)
        reason = reason or f'{status_of(ended.code)}: {last_line(log)}'
        entry.update(status='failed', reason=reason)
        self.state.put(name, entry)
        return Outcome(FAILED, f'{name} failed: {reason} (the whole output: {log})')

    def _collect(self, stage: TrainStage | ToolStage) -> dict[str, Any] | None:
        values, folder = self.values(stage), self.directory(stage.name)
        if isinstance(stage, TrainStage):
            return training_result(folder, stage_config(stage, self.chain, self.choice.options, values))
        return tool_result(folder, tool_config(stage, self.chain, self.choice.options, values))

    def _interrupted(self, stage: Stage) -> Outcome:
        status = INTERRUPTED if self._asked == 'SIGINT' else REQUEUE
        return Outcome(status, f'{self._asked or "pre-empted"} at {stage.name}: the same command goes on')

    def _judge(self, stage: Stage) -> Outcome | None:
        """Compare a complete stage with its gate's parent, each time: the gate may be another one by now."""
        if stage.gate is None:
            return None
        found = judge(stage.name, stage.gate, self.result(stage.name), self.result(stage.gate.parent))
        self.state.put(stage.name, {**self.state.get(stage.name), 'gate': found})
        stop = stage.gate.on_fail == 'stop' or self.choice.stop_at_gates
        warning = 'warning: ' if found['verdict'] != 'passed' else ''
        self.tell(f'{warning}{found["text"]}')
        if found['verdict'] == 'failed' and stop:
            return Outcome(FAILED, f'stopped at the gate of {stage.name}')
        return None

    # ------------------------------------------------------------------------------------------------- files

    def _set_aside_file(self, file: Path) -> Path | None:
        """Return where a file went that a person had made in a stage's directory before that was set aside."""
        for stage in self.chain.stages:
            folder = self.directory(stage.name)
            if file.is_relative_to(folder):
                found = [old / file.relative_to(folder) for old in self.work_dir.glob(f'{stage.name}.old-*')]
                return max((path for path in found if path.is_file()), key=lambda path: path.stat().st_mtime,
                           default=None)
        return None

    def _clear(self, stage: TrainStage | ToolStage, entry: Mapping[str, Any] | None) -> bool:
        """Delete what a tool that never came to its end left behind: nobody can use it.

        The directory stays where it may hold more than that: checkpoints of a training, what a failure can be
        understood by, a file that a person has made.
        """
        folder = self.directory(stage.name)
        if not isinstance(stage, ToolStage) or entry is None or entry['status'] not in ('running', 'interrupted'):
            return False
        for other in self.chain.stages:
            if isinstance(other, WaitStage) and not self.missing(other) and Path(
                    self.values(other)[f'{other.name}.file']).is_relative_to(folder):
                return False
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    def _set_aside(self, name: str) -> str | None:
        """Rename a stage's directory and its log out of the way; nothing is deleted.

        The directory goes first: a call that is killed here finds its checkpoint missing and goes on with the rest.
        """
        folder = self.directory(name)
        sources = [path for path in (folder, self.work_dir / f'{name}.log', self._details_path(name)) if path.exists()]
        if not sources:
            return None
        number = 1
        while any(self.work_dir.glob(f'{name}.old-{number}*')):
            number += 1
        for path in sources:
            path.rename(self.work_dir / f'{name}.old-{number}{path.name.removeprefix(name)}')
        return f'{name}.old-{number}'

    def _details_path(self, name: str) -> Path:
        return self.work_dir / f'{name}.fingerprint.json'

    def _write_details(self, name: str, fingerprint: Fingerprint) -> None:
        write_json(self._details_path(name), {'of': fingerprint.record(), **fingerprint.details})

    def _details(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the texts behind a stage's hashes; none where the file is of another start of it."""
        try:
            found = json.loads(self._details_path(name).read_text(encoding='utf-8'))
            return found if found['of'] == entry['fingerprint'] else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec='seconds')


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes:02d} min' if hours else f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


def _scores(result: Mapping[str, Any]) -> str:
    parts = [f'{split} mIoU {measure["metrics"]["mIoU"]:.4f}' for split, measure in result['measures'].items()
             if measure['metrics'].get('mIoU') is not None]
    return f', {", ".join(parts)}' if parts else ''
