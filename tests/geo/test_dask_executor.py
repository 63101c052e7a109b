"""One function over many items on a Dask cluster, of which workers and the scheduler may be lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from projects.engine.errors import UserError
from projects.geo.executors import DaskExecutor

distributed = pytest.importorskip('distributed')

TASKS = """
import os, signal, time
from pathlib import Path
from projects.engine.errors import UserError

def work(item):
    kind, value = item
    if kind == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'kill once' and not Path(value).exists():
        Path(value).write_text('')
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'user':
        raise UserError(f'{value}: bad tile')
    if kind == 'sleep':
        time.sleep(value)
    return kind, value
"""


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory):
    """A function that workers can import, which a test module is not."""
    folder = tmp_path_factory.mktemp('tasks')
    (folder / 'terrace_dask_tasks.py').write_text(TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv('PYTHONPATH', f'{folder}{os.pathsep}{Path(__file__).parents[2]}')
        import terrace_dask_tasks

        yield terrace_dask_tasks.work


@pytest.fixture(scope='module')
def cluster(work) -> Iterator:
    import dask

    # 0: an item whose worker dies is a suspect at once; each new worker costs a second of imports.
    settings = {'distributed.scheduler.allowed-failures': 0, 'distributed.comm.timeouts.connect': '2s'}
    with dask.config.set(settings), distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host='127.0.0.1', silence_logs=50) as found:
        yield found


def test_results_and_failures(work, cluster) -> None:
    told = []
    items = [('double', number) for number in range(20)]
    items[4] = ('user', 'tile 4')
    found = dict(DaskExecutor(cluster).run(work, items, [f'tile {n}' for n in range(20)],
                                           lambda key, result: told.append(key)))
    assert found['tile 7'] == ('double', 7)
    assert isinstance(found['tile 4'], UserError) and str(found['tile 4']) == 'tile 4: bad tile'
    assert sorted(told) == sorted(found) == sorted(f'tile {n}' for n in range(20))


def test_a_killed_worker_costs_only_its_item(work, cluster, tmp_path: Path) -> None:
    items = [('double', number) for number in range(12)]
    items[2] = ('kill', 0)
    items[5] = ('kill once', str(tmp_path / 'killed'))
    found = dict(DaskExecutor(cluster.scheduler_address).run(work, items))
    assert len(found) == 12
    failed = [key for key, result in found.items() if isinstance(result, Exception)]
    assert failed == [2]
    assert isinstance(found[2], UserError)
    assert str(found[2]).startswith('2: the workers that took it died (the last at tcp://127.0.0.1:')
    assert (tmp_path / 'killed').exists()


def test_no_scheduler(work) -> None:
    with pytest.raises(UserError, match=r'scheduler tcp://127\.0\.0\.1:9: not reachable within 1 s'):
        list(DaskExecutor('tcp://127.0.0.1:9', timeout=1).run(work, [('double', 1)]))
    for address in ('nonsense://x:1', 'localhost', 'tcp://x', ''):
        with pytest.raises(UserError, match=r'scheduler: expected an address tcp://HOST:PORT, found '):
            DaskExecutor(address)


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, '-m', *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_lost_scheduler(work, tmp_path: Path) -> None:
    """One line, soon; what was yielded is done, and the caller's manifest knows it."""
    file = tmp_path / 'scheduler.json'
    scheduling = ('distributed.cli.dask_scheduler', '--host', '127.0.0.1', '--port', '0', '--no-dashboard',
                  '--scheduler-file', str(file))
    processes = [start(*scheduling)]
    try:
        with pytest.raises(UserError, match='expected a worker within 0 s, found none'):
            list(DaskExecutor(scheduler_address(file), patience=0.1).run(work, [('double', 1)]))
        processes.append(start('distributed.cli.dask_worker', '--scheduler-file', str(file), '--nthreads', '1',
                               '--no-dashboard', '--no-nanny', '--death-timeout', '20'))
        address = scheduler_address(file)
        done, begun = [], time.monotonic()
        with pytest.raises(UserError, match=r'scheduler tcp://127.*: lost the connection with 2 of 50 items done; '
                                            'start it again'):
            for key, _ in DaskExecutor(address).run(work, [('sleep', 0.2)] * 50):
                done.append(key)
                if len(done) == 2:
                    processes[0].send_signal(signal.SIGKILL)
                    processes[0].wait(10)
        assert len(done) == 2
        assert time.monotonic() - begun < 15
        with pytest.raises(UserError, match='not reachable'):
            list(DaskExecutor(address, timeout=1).run(work, [('double', 1)]))
    finally:
        for process in processes:
            process.kill()
            process.wait(10)


def scheduler_address(file: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return json.loads(file.read_text())['address']
        except (FileNotFoundError, ValueError):
            time.sleep(0.05)
    raise TimeoutError(file)
