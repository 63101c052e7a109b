"""One run of Weights & Biases that cannot hurt the training: whatever fails in it switches it off, and no more."""

import contextlib
import functools
import json
import logging
import math
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from projects.engine.scalars import Key
from projects.engine.tracking.history import key_of, logged_rows
from projects.engine.tracking.offline import Transcript, transcripts
from projects.engine.tracking.reachable import choose_mode
from projects.engine.tracking.scrub import Scrubber
from projects.engine.tracking.source import Source

INIT_SECONDS = 5.0  # with the three of the probe and the end of W&B's process below ten
END_SECONDS = 2.0  # for W&B's process to end when it has nothing left to do
SUPPORTED = '0.31'  # of wandb; artifacts go through functions of it that may change


@dataclass(frozen=True)
class Names:
    """What a run is called."""

    id: str
    project: str
    group: str | None = None
    job_type: str | None = None
    name: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)


def say(text: str, level: int = logging.WARNING) -> None:
    """Log one line."""
    print_log('tracking: ' + ' '.join(text.split()), 'current', level)


def guarded(method: Callable) -> Callable:
    """Do nothing once the session is off, and switch it off when the method fails."""
    return _guarded(method, lambda session, error: session.switch_off(
        f'{method.__name__} failed ({type(error).__name__}: {error})'))


def guarded_artifact(method: Callable) -> Callable:
    """Do nothing once the session is off, and lose this artifact alone when the method fails; warn once."""
    return _guarded(method, lambda session, error: session.warn_of_artifacts(error))


def _guarded(method: Callable, failed: Callable[['Session', Exception], None]) -> Callable:
    @functools.wraps(method)
    def call(self: 'Session', *args: Any, **kwargs: Any) -> None:
        if self.run is None:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # a server, a disk, a process of W&B: none is worth a training
            failed(self, error)
    return call


class Session:
    """A run of Weights & Biases, below ``WORK_DIR/wandb``.

    A work directory that was tracked before goes on as the same run. Rows that were sent before are not sent again,
    and rows of ``scalars.json`` that never were (the tail of a killed start) are sent first.

    Args:
        work_dir: The run's work directory.
        names: Its id and where it belongs.
        finish_timeout: Seconds to wait at the end for what is not yet uploaded; it stays in the work directory.
    """

    def __init__(self, work_dir: str | Path, names: Names, finish_timeout: float = 60.0) -> None:
        self.work_dir, self.names, self.finish_timeout = Path(work_dir), names, finish_timeout
        self.scrub = Scrubber()
        self.run: Any = None
        self.mode: str | None = None
        self._sent: set[Key] = set()
        self._step = 0  # W&B's own, which may only grow
        self._clock: int | None = None  # the iteration that training and validation have been sent up to
        self._artifacts: set[tuple[str, str, str]] = set()  # type, name, sha256 of what is in it
        self._warned = False

    def start(self, config: Mapping[str, Any] | None = None, mode: str | None = None,
              send_missing: bool = True) -> None:
        """Open the run.

        Args:
            config: What the run was made with; left as it was where None.
            mode: ``online`` (and nothing else where that fails), ``offline`` or ``disabled``; default
                :func:`choose_mode`, with ``offline`` where ``online`` fails.
            send_missing: Send what earlier starts could not.
        """
        warning, only = None, mode
        if mode is None:
            mode, warning = choose_mode()
        self.mode = mode
        if mode == 'disabled':
            return
        if warning:
            say(f'offline: {warning}; later: tools/sync_runs.py {self.work_dir} --upload')
        try:
            earlier = transcripts(self.work_dir, self.names.id)
            if mode == 'online':
                try:
                    self.run = self._open('online', config)
                except Exception as error:
                    if only:
                        raise
                    say(f'offline: {type(error).__name__}: {error}; later: tools/sync_runs.py {self.work_dir} --upload')
                    end_service(1, 0.5)  # it holds the id of the run that it could not open
                    self.mode = 'offline'
            if self.run is None:
                self.run = self._open('offline', config)
            # As W&B logs a table, it asks the server whether the table's name is free, and waits.
            object.__setattr__(self.run, 'log_artifact', self._publish)
            self.run.define_metric('iter', hidden=True)
            for pattern in ('epoch', 'train/*', 'val/*', 'test/*'):
                self.run.define_metric(pattern, step_metric='iter')
            self._take_over(earlier, send_missing)
        except Exception as error:
            self.switch_off(f'no run ({type(error).__name__}: {error})')
        if self.run is not None:
            say(f'{self.mode} run {self.names.id} of {self.names.project}', logging.INFO)

    def _open(self, mode: str, config: Mapping[str, Any] | None) -> Any:
        os.environ['WANDB_MODE'] = mode  # an empty or unknown one is an error to wandb
        os.environ.setdefault('WANDB_ERROR_REPORTING', 'false')  # tracebacks, with paths; read at the import
        import wandb

        # Where it keeps files to be uploaded; they belong to the run, not to the user's home.
        os.environ.setdefault('WANDB_DATA_DIR', str((self.work_dir / 'wandb' / 'data').absolute()))
        self.work_dir.mkdir(parents=True, exist_ok=True)
        names = self.names
        group, job_type, name = (self.scrub.text(text)[:128] if text else None
                                 for text in (names.group, names.job_type, names.name))
        return wandb.init(
            project=plain_name(self.scrub.text(names.project)), group=group, job_type=job_type, name=name,
            tags=[tag[:64] for text in names.tags if (tag := self.scrub.text(str(text)))] or None,
            id=names.id, resume='allow', dir=str(self.work_dir), mode=mode,
            config=None if config is None else self.scrub(config), settings=wandb.Settings(
                console='off', silent=True, save_code=False, disable_git=True, disable_job_creation=True,
                x_disable_meta=True,  # program path, arguments, user, host, remote of git
                host='hidden', program='tools/train.py', allow_val_change=True, init_timeout=INIT_SECONDS,
                finish_timeout=self.finish_timeout,
                x_transaction_log_flush_interval=1.0))  # what a power cut takes

    def _take_over(self, earlier: list[Transcript], send_missing: bool) -> None:
        """Learn what earlier starts have sent, and send what they could not."""
        # Of what went to the server itself the server knows the end. Files still to be uploaded count beside it.
        files = [file for file in earlier if self.mode == 'offline' or (file.offline and not file.synced)]
        self._sent = set().union(*(file.keys() for file in files))
        reached = self.run.summary.get('iter', -1) if self.mode == 'online' else -1
        if self.mode == 'online':  # of the iteration it ends with it may have the training and not the validation
            self._sent |= {key for file in earlier for row in file.history
                           if row['_step'] < self.run.starting_step and (key := key_of(row)) is not None}
        self._artifacts = {
            (artifact.type, artifact.name, _sha256_in(artifact.metadata)) for file in files
            for record in file.records if record.WhichOneof('record_type') == 'artifact'
            for artifact in (record.artifact,)}
        if self.mode == 'offline' and earlier:  # the summary of an upload replaces that of the one before
            merged = {key: value for file in earlier for key, value in file.summary().items() if key[:1] != '_'}
            self.run.summary.update(merged)
        self._clock = max([reached, *(iteration for _, iteration in self._sent)]) if self.mode == 'offline' else reached
        self._clock = None if self._clock < 0 else self._clock
        # The steps behind what a server has are those of rows that it missed, where files to be uploaded come after.
        top = max([self.run.starting_step, *(file.next_step() for file in earlier)])
        held = max((key[1] for file in files for row in file.history if (key := key_of(row))), default=-1)
        self._step = self.run.starting_step if self.mode == 'online' and held >= 0 else top
        for key, row in logged_rows(self.work_dir).items():
            if row['iter'] < reached or (row['iter'] == reached and (key[0] == 'train' or self._ends_with(row))):
                self._sent.add(key)
            elif key not in self._sent and send_missing:
                self._step = max(self._step, top) if row['iter'] > held else self._step
                self.log(row)
        self._step = max(self._step, top)

    def _ends_with(self, row: Mapping[str, Any]) -> bool:
        """Say whether the summary holds the scores of a validation."""
        scores = {name: value for name, value in row.items() if name.startswith('val/') and isinstance(value, float)
                  and math.isfinite(value)}
        return bool(scores) and all(self.run.summary.get(name) == value for name, value in scores.items())

    def is_new(self, row: Mapping[str, Any]) -> bool:
        """Say whether a row was not sent before."""
        return self.run is not None and key_of(row) not in self._sent

    @guarded
    def log(self, row: Mapping[str, Any]) -> None:
        """Send one row, unless it was sent before; it holds its iteration as ``iter``."""
        key = key_of(row)
        if key is not None:
            if key in self._sent:
                return
            self._sent.add(key)
        row = {name: self.scrub.text(value) if isinstance(value, str) else value for name, value in row.items()}
        self.run.log(row, step=self._step, commit=True)
        self._step += 1
        if key is not None:
            self._clock = max(key[1], self._clock or 0)
        elif self._clock is not None and row.get('iter') != self._clock:
            # A picture, a test: W&B takes over its iteration, or 0. A later start goes on behind the summary's.
            self.run.summary.update({'iter': self._clock})

    @guarded
    def summarise(self, values: Mapping[str, Any]) -> None:
        """Put values into the summary."""
        self.run.summary.update(self.scrub(values))

    @guarded
    def alert(self, title: str, text: str) -> None:
        """Send an alert."""
        import wandb

        self.run.alert(title=self.scrub.text(title), text=self.scrub.text(text), level=wandb.AlertLevel.WARN)

    @guarded_artifact
    def reference(self, kind: str, name: str, file: str, sha256: str, metadata: Mapping[str, Any],
                  aliases: Iterable[str] = (), used: bool = False) -> None:
        """Record a file that stays where it is as an artifact: its name, its hash and facts about it.

        The same name and hash are the same version everywhere. So what one run has made and another one has used are
        connected, also when neither was online.

        Args:
            kind: ``model`` or ``dataset``.
            name: The artifact's.
            file: The file's name.
            sha256: Its hash.
            metadata: Facts.
            aliases: Of this version.
            used: The run has read it; else it has made it.
        """
        import wandb
        from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

        artifact = wandb.Artifact(plain_name(name), type=kind, metadata=self.scrub({**metadata, 'sha256': sha256}))
        entry = f'sha256:{sha256}'  # the digest of an artifact is made from names and these
        artifact.manifest.add_entry(ArtifactManifestEntry(path=self.scrub.text(file), digest=entry, ref=entry))
        self._publish(artifact, aliases, used)

    @guarded_artifact
    def upload(self, name: str, path: Path, metadata: Mapping[str, Any], aliases: Iterable[str]) -> None:
        """Upload a checkpoint. A link keeps its bytes when the training deletes the file before they are sent."""
        import wandb

        kept = self._folder('upload') / path.name
        kept.unlink(missing_ok=True)
        try:
            os.link(path, kept)
        except OSError:
            shutil.copyfile(path, kept)
        artifact = wandb.Artifact(plain_name(name), type='model', metadata=self.scrub(metadata))
        artifact.add_file(str(kept), name=path.name, policy='immutable', skip_cache=True)
        self._publish(artifact, aliases)

    @guarded_artifact
    def save_source(self, source: Source) -> None:
        """Save the code that git tracks, once for each state of it."""
        import wandb

        digest = source.sha256()
        if ('code', 'terrace', digest) in self._artifacts:
            return
        artifact = wandb.Artifact('terrace', type='code', metadata=dict(
            commit=source.commit, dirty=source.dirty, sha256=digest))
        for name in source.files:  # copies: an offline run may be uploaded after the checkout has moved on
            kept = self._folder('code') / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.root / name, kept)
            artifact.add_file(str(kept), name=name, policy='immutable', skip_cache=True)
        self._publish(artifact)

    @guarded_artifact
    def _publish(self, artifact: Any, aliases: Iterable[str] = ('latest',), used: bool = False) -> None:
        # Run.log_artifact and use_artifact ask the server before they go on, and the latter refuses to work offline.
        artifact.finalize()
        self.run._interface.publish_artifact(
            self.run, artifact, sorted({plain_name(alias) for alias in aliases}), is_user_created=used,
            use_after_commit=used)

    def _folder(self, name: str) -> Path:
        folder = Path(self.run.dir).parent / 'terrace' / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @guarded
    def preempted(self) -> None:
        """Tell that the run ends early and will go on."""
        self.run.mark_preempting()

    @guarded
    def finish(self, exit_code: int = 0, seconds: float | None = None) -> None:
        """Close the run; what is not uploaded in time (default ``finish_timeout``) stays in the work directory."""
        run, self.run = self.run, None
        seconds = self.finish_timeout + END_SECONDS if seconds is None else seconds
        if not in_time(lambda: run.finish(exit_code=exit_code), seconds):
            say(f'not all was uploaded; later: tools/sync_runs.py {self.work_dir} --upload')
        end_service(exit_code, END_SECONDS)

    def warn_of_artifacts(self, error: Exception) -> None:
        """Tell, once, that artifacts are missing."""
        if not self._warned:
            say(f'artifacts are missing ({type(error).__name__}: {error}); wandb {SUPPORTED} is supported, found '
                f'{getattr(sys.modules.get("wandb"), "__version__", "none")}; all else is tracked')
        self._warned = True

    def switch_off(self, reason: str) -> None:
        """Give tracking up for this process, in one line."""
        say(f'off: {reason}; the training goes on, its numbers are in scalars.json; later: tools/sync_runs.py '
            f'{self.work_dir}')
        self.run = None
        end_service(1, 1.0)


def in_time(call: Callable[[], Any], seconds: float) -> bool:
    """Say whether a call comes back within some seconds; it goes on in its thread where not. Errors do not count."""
    def quietly() -> None:
        with contextlib.suppress(Exception, SystemExit):
            call()

    thread = threading.Thread(target=quietly, name='wandb-end', daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def end_service(exit_code: int, seconds: float) -> None:
    """End the process of W&B that this one has started, by force if it takes too long.

    It does not end while it still tries to reach a server that is gone, and Python waits for it at its own end.
    """
    wandb_setup = sys.modules.get('wandb.sdk.wandb_setup')
    connection = getattr(getattr(wandb_setup, '_singleton', None), '_connection', None)
    process = getattr(getattr(connection, '_proc', None), '_process', None)
    if process is not None and not in_time(lambda: wandb_setup.teardown(exit_code=exit_code), seconds):
        process.kill()
        process.wait()


def plain_name(name: str) -> str:
    """Return a name that W&B takes for an artifact or an alias."""
    return ''.join(letter if letter.isalnum() or letter in '._-' else '-' for letter in name)[:128]


def _sha256_in(metadata: str) -> str:
    try:
        return str(json.loads(metadata or '{}').get('sha256', ''))
    except json.JSONDecodeError:
        return ''
