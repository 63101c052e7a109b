"""Every test here runs in a started process, whichever runs first."""

import importlib.util
from pathlib import Path

import pytest

import projects.engine.register
import projects.multistage.register  # noqa: F401
from projects.engine import startup


@pytest.fixture(scope='session', autouse=True)
def started() -> None:
    """Register all types and set the default scope, as every tool does."""
    startup.start()


@pytest.fixture(scope='session')
def networks():
    """The module networks.py beside this file: small networks and batches."""
    specification = importlib.util.spec_from_file_location('networks', Path(__file__).with_name('networks.py'))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
