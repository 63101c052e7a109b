"""Tools called in this process, and functions killed in one of their own: neither pays for the imports again."""

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest


@pytest.fixture
def call_tool(repository, monkeypatch) -> Callable[..., subprocess.CompletedProcess]:
    """Return a function that runs `tools/landcover/NAME` with arguments and returns status, output and errors."""

    def call(name: str, *arguments: object) -> subprocess.CompletedProcess:
        path = str(repository / 'tools/landcover' / name)
        out, errors, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        monkeypatch.setattr(sys, 'argv', [path, *map(str, arguments)])
        try:
            with redirect_stdout(out), redirect_stderr(errors), pytest.raises(SystemExit) as end:
                runpy.run_path(path, run_name='__main__')
        finally:
            signal.signal(signal.SIGTERM, before)
        return subprocess.CompletedProcess(sys.argv, end.value.code or 0, out.getvalue(), errors.getvalue())

    return call


@pytest.fixture
def killed() -> Callable[..., int]:
    """Return a function that calls another one in a forked process and returns its status.

    `moment` arms a fail point, `seconds` is the time after which the process is killed from outside.
    """

    def call(function: Callable[..., Any], *arguments: Any, moment: str = '', seconds: float | None = None) -> int:
        def child() -> None:
            os.environ['TERRACE_FAIL_POINT'] = moment
            sys.stderr = io.StringIO()
            pipe[1].send('begins')
            function(*arguments)

        context = multiprocessing.get_context('fork')
        pipe = context.Pipe()
        process = context.Process(target=child)
        process.start()
        pipe[0].recv()
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        process.join()
        return process.exitcode

    return call
