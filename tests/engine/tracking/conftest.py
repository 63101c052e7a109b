"""Real sessions of W&B, apart from the user's own settings, and the stand-in server."""

import importlib.util
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from projects.engine import startup
from projects.engine.tracking.session import Names, Session


@pytest.fixture(scope='session', autouse=True)
def started() -> None:
    """Register all types, as every tool does."""
    startup.start()


@pytest.fixture
def alone(monkeypatch, tmp_path) -> Path:
    """A home of its own, no key and no mode; returns the home."""
    home = tmp_path / 'home' / 'alice'
    home.mkdir(parents=True)
    for name in list(os.environ):
        if name.startswith('WANDB'):
            monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(home))
    for name in ('WANDB_MODE', 'WANDB_DATA_DIR', 'WANDB_ERROR_REPORTING', 'WANDB_CACHE_DIR'):  # so that all are undone
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    monkeypatch.setenv('WANDB_CACHE_DIR', str(home / 'cache'))
    return home


@pytest.fixture
def session(alone, tmp_path):
    """Return a function that makes a session of the work directory ``tmp_path/run``; all are closed at the end."""
    made = []

    def make(work_dir: Path = tmp_path / 'run', **arguments) -> Session:
        made.append(Session(work_dir, Names(
            'abcd1234', 'landcover', 'chain', 'baseline', 'name', ('fast',)), **arguments))
        return made[-1]

    yield make
    for one in made:
        one.finish()


@pytest.fixture
def scalars(tmp_path):
    """Return a function that writes the ``scalars.json`` of a start of ``tmp_path/run``."""

    def write(timestamp: str, lines: list, tail: str = '') -> None:
        path = tmp_path / 'run' / timestamp / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(''.join(json.dumps(line) + '\n' for line in lines) + tail)

    return write


@pytest.fixture
def stand_in(alone):
    """A server of W&B on loopback; it ends with the test."""
    path = Path(__file__).with_name('stand_in.py')
    spec = importlib.util.spec_from_file_location('stand_in', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.StandIn() as server:
        yield server


@pytest.fixture
def black_hole():
    """The address of something that takes connections and never answers."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        kept = []

        def accept() -> None:
            try:
                while True:
                    kept.append(server.accept())
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f'http://127.0.0.1:{server.getsockname()[1]}'
        server.shutdown(socket.SHUT_RDWR)
        for connection, _ in kept:
            connection.close()
