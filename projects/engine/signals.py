"""Answering a scheduler and a keyboard while other processes do the work."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def answering(asked: Callable[[str], None]) -> Iterator[None]:
    """Tell SIGINT, SIGTERM and SIGUSR1 by name while the body runs, instead of ending."""

    def answer(number: int, frame: Any) -> None:
        asked(signal.Signals(number).name)

    before = {number: signal.signal(number, answer) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
