"""Fixtures shared by all tests."""

import os
from pathlib import Path

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
