"""What a chain remembers between two calls: ``chain.json``, written whole after every event, and who may write it."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.lock import is_locked, locked

VERSION = 1
STATE_NAME = 'chain.json'
STATUSES = ('running', 'complete', 'failed', 'interrupted')
PATIENCE = 60  # seconds to wait for another job that writes its own stage's entry


class ChainState:
    """The entries of all stages.

    An entry holds ``status`` (one of :data:`STATUSES`), ``fingerprint`` (what it was begun with), ``started``,
    ``ended``, ``seconds``, ``cpu_seconds``, ``starts``, ``reason``, ``process``, ``host``, ``result`` and ``gate``.

    Args:
        work_dir: The chain's directory; nothing is made in it before something is written.
        chain: The chain's name.

    Raises:
        UserError: ``chain.json`` is no state, or another chain's.
    """

    def __init__(self, work_dir: str | Path, chain: str) -> None:
        self.work_dir, self.chain = Path(work_dir), chain
        self.stages: dict[str, dict[str, Any]] = self._read()

    @property
    def path(self) -> Path:
        return self.work_dir / STATE_NAME

    def get(self, stage: str) -> dict[str, Any] | None:
        """Return a stage's entry; None where it was never begun."""
        return self.stages.get(stage)

    def put(self, stage: str, entry: Mapping[str, Any]) -> None:
        """Keep a stage's entry; an entry that is the same already touches nothing."""
        if self.stages.get(stage) == entry:
            return
        with _briefly_locked(self.work_dir / '.state'):  # jobs of other stages write theirs
            self.stages = {**self._read(), stage: dict(entry)}
            write_json(self.path, {'version': VERSION, 'chain': self.chain, 'stages': self.stages})

    def read_again(self) -> None:
        """Take over what other jobs have written."""
        self.stages = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.is_file():
            return {}
        try:
            value = json.loads(self.path.read_text(encoding='utf-8'))
            version, chain, stages = value['version'], value['chain'], value['stages']
            if version == VERSION and not all(entry['status'] in STATUSES and isinstance(entry['fingerprint'], dict)
                                              for entry in stages.values()):
                raise ValueError('an entry has no status')
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f'{self.path}: not the state of a chain ({type(error).__name__}: {error})') from error
        if version != VERSION:
            raise UserError(f'{self.path}: version: expected {VERSION}, found {version!r}')
        if chain != self.chain:
            raise UserError(f'{self.path}: belongs to the chain {chain}, not to {self.chain}; choose another '
                            '--work-dir')
        return stages


@contextmanager
def holding(work_dir: str | Path, stages: list[str], only: str | None = None) -> Iterator[None]:
    """Hold a chain's directory, or a single stage of it: jobs of several stages may run beside each other.

    Args:
        work_dir: The chain's directory.
        stages: Names of all stages.
        only: The stage that is run alone.

    Raises:
        UserError: Another process runs the chain, or the stage, or (for the whole chain) any stage.
    """
    work_dir = Path(work_dir)
    if only is None:
        with locked(work_dir):
            for name in stages:
                if is_locked(work_dir / '.only' / name):
                    raise UserError(f'{work_dir}: stage {name} runs as a job of its own (--only); wait for it')
            yield
        return
    if is_locked(work_dir):
        raise UserError(f'{work_dir}: the whole chain runs in it; wait for it, or choose another --work-dir')
    with locked(work_dir / '.only' / only):
        yield


@contextmanager
def _briefly_locked(folder: Path) -> Iterator[None]:
    until = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except UserError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield
