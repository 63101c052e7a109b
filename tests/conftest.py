"""Fixtures shared by all tests."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1')  # pytest-xdist already uses every core
os.environ.setdefault('WANDB_MODE', 'disabled')  # tests/engine/tracking asks for what it needs

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--minutes', action='store_true', help='also run the tests that take minutes')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption('--minutes'):
        return
    for item in items:
        if 'minutes' in item.keywords:
            item.add_marker(pytest.mark.skip(reason='takes minutes: run with --minutes'))


@pytest.fixture(scope='session')
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope='session')
def load_module() -> Callable[[Path], ModuleType]:
    """Execute a Python file that is in no package, as a benchmark, and return it as a module."""
    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def scored_by_two(repository: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Any]:
    """Check that two processes, one sample repeated, find what one finds, to the bit; return that.

    Takes an odd number of samples, which the test file's function ``score_numbered(indices, length)`` scores.
    """

    def call(length: int) -> Any:
        found = json.loads(json.dumps(request.module.score_numbered(list(range(length)), length)))
        subprocess.run([sys.executable, repository / 'tests/scored_by_two.py', request.path, tmp_path, str(length)],
                       check=True, cwd=tmp_path, timeout=120, env=dict(os.environ, PYTHONPATH=str(repository)))
        for ranks in zip(*(json.loads((tmp_path / f'rank{rank}.json').read_text()) for rank in (0, 1))):
            dealt = [index for indices, _ in ranks for index in indices]
            assert len(dealt) == length + 1 and set(dealt) == set(range(length))  # one was really repeated
            assert [own for _, own in ranks] == [found, found]
        assert not (tmp_path / '.dist_test').exists()  # nothing is left in the working directory
        return found

    return call


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder `shared/` beside the checkout (parity packs and real data), where there is one."""
    folder = REPOSITORY.parent / 'shared'
    if not folder.is_dir():
        pytest.skip('no ../shared beside the checkout: parity packs and real data are not distributed')
    return folder


@pytest.fixture(scope='session')
def shared_data(shared: Path) -> Path:
    """The folder `shared/data` of real data, where there is one."""
    folder = shared / 'data'
    if not folder.is_dir():
        pytest.skip('no ../shared/data beside the checkout: real data are not distributed')
    return folder
