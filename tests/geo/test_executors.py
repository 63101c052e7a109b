"""One function over many items, in this process and in several that may be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projects.engine.errors import UserError
from projects.geo.executors import Executor, ProcessExecutor, SerialExecutor

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from projects.engine.errors import UserError
from projects.geo.executors import ProcessExecutor

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)

def work(item):
    kind, value = item
    if kind == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'kill once' and not Path(value).exists():
        Path(value).write_text('')
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'exit':
        os._exit(3)
    if kind == 'user':
        raise UserError(f'{value}: bad tile')
    if kind == 'odd':
        raise Odd(1, 2)
    if kind == 'lambda':
        return lambda: value
    if kind == 'threads':
        return os.environ['OMP_NUM_THREADS'], len(os.sched_getaffinity(0)), os.getpid()
    if kind == 'sleep':
        Path(value).write_text(str(os.getpid()))
        time.sleep(60)
    return value * 2

if __name__ == '__main__':
"""


def run_program(folder: Path, body: str) -> str:
    """Run a program with its own main module, as tools are: workers import it."""
    path = folder / 'program.py'
    path.write_text(PROGRAM + '\n'.join('    ' + line for line in body.splitlines()))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=False, cwd=folder,
                          env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    return done.stdout


def double(value: int) -> int:
    if value == 3:
        raise ValueError('three')
    return value * 2


def test_serial_goes_on_after_a_failure() -> None:
    executor: Executor = SerialExecutor()
    told = []
    found = dict(executor.run(double, [1, 3, 5], 'abc', lambda key, result: told.append(key)))
    assert (found['a'], found['c'], repr(found['b'])) == (2, 10, "ValueError('three')")
    assert told == ['a', 'b', 'c']
    assert list(executor.run(double, [4])) == [(0, 8)]
    with pytest.raises(ValueError, match='longer than argument'):
        list(executor.run(double, [1, 2], ['a']))


def test_no_worker_at_all() -> None:
    with pytest.raises(UserError, match='workers: expected at least 1, found 0'):
        ProcessExecutor(0)


def test_killed_workers_cost_only_their_items(tmp_path: Path) -> None:
    told = run_program(tmp_path, f"""
items = [('double', number) for number in range(20)]
items[3] = ('kill', 0)
items[5] = ('kill once', {str(tmp_path / 'killed')!r})
items[7] = ('exit', 0)
items[9] = ('user', 'tile 9')
items[11] = ('odd', 0)
items[13] = ('lambda', 0)
found = dict(ProcessExecutor(2).run(work, items))
for key in sorted(found):
    print(key, type(found[key]).__name__, str(found[key])[:90])
""").splitlines()
    lines = {int(line.split()[0]): line.split(' ', 1)[1] for line in told}
    assert len(lines) == 20
    assert [lines[key] for key in (0, 1, 19)] == ['int 0', 'int 2', 'int 38']
    assert lines[3] == 'UserError 3: 2 worker processes died over it (signal 9, SIGKILL: out of memory?)'
    assert lines[5].startswith('str ')  # the second attempt succeeded
    assert lines[7] == 'UserError 7: 2 worker processes died over it (exit status 3)'
    assert lines[9] == 'UserError tile 9: bad tile'
    assert lines[11] == 'RuntimeError Odd: 1'
    assert lines[13].startswith('RuntimeError ') and 'pickle' in lines[13]


def test_workers_have_one_thread_and_one_core(tmp_path: Path) -> None:
    told = run_program(tmp_path, 'for _, result in ProcessExecutor(2).run(work, [("threads", 0)] * 6): print(*result)\n'
                                 'print(os.environ.get("MKL_NUM_THREADS"), len(os.sched_getaffinity(0)))').splitlines()
    assert {line.rsplit(' ', 1)[0] for line in told[:6]} == {'1 1'}
    assert len({line.rsplit(' ', 1)[1] for line in told[:6]}) <= 2
    assert told[6] == f'{os.environ.get("MKL_NUM_THREADS")} {len(os.sched_getaffinity(0))}'  # the parent is as before


def test_stopping_early_ends_the_workers(tmp_path: Path) -> None:
    told = run_program(tmp_path, f"""
pid = Path({str(tmp_path / 'pid')!r})
items = [('sleep', pid), ('double', 1), ('double', 2)]
for key, result in ProcessExecutor(2).run(work, items):
    while not pid.exists() or not pid.read_text():
        time.sleep(0.01)
    print(key, result)
    break
""")
    assert told == '1 2\n'
    assert not alive(int((tmp_path / 'pid').read_text()))


def test_workers_do_not_outlive_a_killed_program(tmp_path: Path) -> None:
    path = tmp_path / 'program.py'
    path.write_text(PROGRAM + "    for _ in ProcessExecutor(1).run(work, [('threads', 0), ('threads', 0)]):\n"
                    "        print(_[1][2], flush=True)\n        time.sleep(60)\n")
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}) as process:
        worker = int(process.stdout.readline())
        assert alive(worker)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_executors_are_light() -> None:
    code = ('import sys, projects.geo.executors, projects.geo.task_manifest, projects.geo.point_tiles\n'
            'heavy = {"dask", "distributed", "torch", "mmengine", "rasterio", "tornado"}\n'
            'print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == '[]\n'
