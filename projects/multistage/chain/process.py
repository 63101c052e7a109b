"""One stage's process: started in a session of its own, watched, asked to save and leave, found again after a kill."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from projects.engine.errors import UserError

PATIENCE = 300  # seconds that a process has to save itself before it is killed
MARK = 'TERRACE_STAGE'  # in the environment of a stage's processes: their directory


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int  # negative: the signal
    seconds: float
    cpu_seconds: float  # of the process and all that it has waited for
    asked: str | None  # the signal that asked it to leave


def run_process(command: Sequence[str], log: Path, folder: Path, asked: Callable[[], str | None],
                begun: Callable[[int], None], *, group: bool, poll: float = 0.5,
                show: Callable[[str], None] | None = None) -> Ended:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        log: Its output is appended here.
        folder: The stage's directory, which marks the process.
        asked: Asked again and again for the signal that this process got; then the stage gets SIGTERM.
        begun: Told the process id.
        group: SIGTERM goes to the whole session (a shell would die and leave its tool alone); else to the process,
            which tells its own.
        poll: Seconds between two looks.
        show: Takes the log's last line whenever it has changed.
    """
    start, spent = time.monotonic(), _cpu_of_children()
    environment = {**os.environ, MARK: str(folder), 'PYTHON': os.environ.get('PYTHON', sys.executable),
                   'PYTHONUNBUFFERED': '1'}
    told: str | None = None
    told_at = 0.0
    line = ''
    with open(log, 'ab') as file:
        try:  # its own session: Ctrl-C reaches this process alone, which then asks the stage to save
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       start_new_session=True, env=environment)
        except OSError as error:
            raise UserError(f'{command[0]}: {error.strerror}') from error
        begun(process.pid)
        while True:
            try:
                process.wait(timeout=poll)
                break
            except subprocess.TimeoutExpired:
                pass
            if told is None and (told := asked()):
                told_at = time.monotonic()
                ask(process.pid, signal.SIGTERM, group)
            elif told and time.monotonic() - told_at > PATIENCE:
                ask(process.pid, signal.SIGKILL, group=True)
            if show and (last := last_line(log, whole=False)) != line:
                line = last
                show(line)
    return Ended(process.returncode, time.monotonic() - start, _cpu_of_children() - spent, told or asked())


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ask(process: int, number: int, group: bool) -> None:
    """Send a signal to a process or to its session; one that is gone already is no error."""
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(process, number)
        else:
            os.kill(process, number)


def left_behind(folder: Path) -> list[int]:
    """Return the processes of a stage that outlived who started them, on this machine; session leaders first."""
    wanted = os.fsencode(f'{MARK}={folder}')
    found = []
    for place in Path('/proc').glob('[0-9]*/environ'):
        process = int(place.parent.name)
        if process == os.getpid():
            continue
        try:
            if wanted in place.read_bytes().split(b'\0'):
                found.append(process)
        except OSError:
            continue
    return sorted(found, key=lambda process: (_leader(process) != process, process))


def end_left_behind(folder: Path, tell: Callable[[str], None], group: bool, poll: float = 0.5) -> None:
    """Ask the processes that a killed call left behind to save and leave, and wait for them.

    Raises:
        UserError: They do not.
    """
    found = left_behind(folder)
    if not found:
        return
    tell(f'{folder.name}: process {found[0]} of a killed call still runs: it is asked to save and leave')
    for process in found:
        if _leader(process) == process:
            ask(process, signal.SIGTERM, group)
    until = time.monotonic() + PATIENCE
    while found := left_behind(folder):
        if time.monotonic() > until:
            raise UserError(f'{folder}: process {found[0]} of a killed call still runs; wait for it, or end it')
        time.sleep(poll)


def last_line(log: Path, whole: bool = True) -> str:
    """Return the last line of a log that says something; with ``whole`` an ``error:`` line before others."""
    try:
        with open(log, 'rb') as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            text = file.read().decode('utf-8', errors='replace')
    except OSError:
        return ''
    lines = [line.strip() for line in text.replace('\r', '\n').splitlines()[-50:] if line.strip()]
    told = [line for line in lines if line.startswith('error: ')] if whole else []
    return (told or lines or ['it said nothing' if whole else ''])[-1][:300]


def live_line(stage: str) -> Callable[[str], None] | None:
    """Return what shows a stage's last line in place on standard error; None where that is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f'\r\x1b[K{f"{stage}: {line}"[:width]}' if line else '\r\x1b[K')
        sys.stderr.flush()

    return show


def status_of(code: int) -> str:
    """Write an exit code for a reader: ``status 2``, or the signal's name."""
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f'status {code}'


def _leader(process: int) -> int | None:
    try:
        return os.getsid(process)
    except OSError:
        return None
