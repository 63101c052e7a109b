"""Every test here runs in a started process, whichever runs first."""

import pytest

import projects.engine.register  # noqa: F401
from projects.engine import startup


@pytest.fixture(scope='session', autouse=True)
def started() -> None:
    """Register all types and set the default scope, as every tool does."""
    startup.start()
