"""A function over many items in processes of this machine, one thread each, that may be killed."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from projects.engine.errors import UserError

ATTEMPTS = 2  # of an item whose worker dies
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'RAYON_NUM_THREADS')


class ProcessExecutor:
    """Several processes of this machine; see :class:`projects.geo.executors.Executor`.

    Args:
        workers: Number of processes, at least 1. Each has one thread and, where the system allows it, one core: some
            libraries start as many threads as they see cores, whatever the environment says.

    A worker that dies is replaced; its item is tried once more and then reported. The main module of the program is
    imported by the workers (spawn), so it has to do its work under ``if __name__ == '__main__'``.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise UserError(f'workers: expected at least 1, found {workers}')
        self.workers = workers

    def run(self, function: Callable[[Any], Any], items: Sequence[Any], keys: Sequence[Hashable] | None = None,
            on_result: Callable[[Hashable, Any], None] | None = None) -> Iterator[tuple[Hashable, Any]]:
        """See :meth:`projects.geo.executors.Executor.run`."""
        names = list(range(len(items)) if keys is None else keys)
        todo = deque((key, item, 1) for key, item in zip(names, items, strict=True))
        first_core = os.getpid()  # so that two programs of one worker each do not share a core for sure
        pool = [_Worker(function, first_core + number) for number in range(min(self.workers, len(items)))]
        try:
            while todo or any(worker.task for worker in pool):
                for worker in pool:
                    if todo and not worker.task:
                        worker.begin(todo.popleft())
                for connection in wait([worker.connection for worker in pool if worker.task]):
                    worker = next(worker for worker in pool if worker.connection is connection)
                    key, item, attempt = worker.task
                    try:
                        result = worker.end()
                    except _Died as death:
                        worker.restart()
                        if attempt < ATTEMPTS:
                            todo.append((key, item, attempt + 1))  # behind the others, which it may not hold up
                            continue
                        result = UserError(f'{key}: {attempt} worker processes died over it ({death})')
                    if on_result is not None:
                        on_result(key, result)
                    yield key, result
        finally:
            for worker in pool:
                worker.stop()


class _Died(Exception):
    pass


@dataclass
class _Worker:
    """One process; ``task`` is ``(key, item, attempt)`` while it works."""

    function: Callable[[Any], Any]
    core: int
    task: tuple[Hashable, Any, int] | None = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        context = multiprocessing.get_context('spawn')  # a fork would copy locks that other threads hold
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, self.core), daemon=True)
        with _one_thread():
            self.process.start()
        other.close()
        self.task = None

    def begin(self, task: tuple[Hashable, Any, int]) -> None:
        # A worker that died already is met in end(). What cannot be pickled fails here, in the caller's face.
        data = pickle.dumps((self.function, task[1]))
        self.task = task
        with contextlib.suppress(OSError):
            self.connection.send_bytes(data)

    def end(self) -> Any:
        try:
            result = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            raise _Died('no exit status' if code is None else f'signal {-code}, {signal.Signals(-code).name}'
                        + (': out of memory?' if code == -signal.SIGKILL else '')
                        if code < 0 else f'exit status {code}') from None
        self.task = None
        return result

    def stop(self) -> None:
        self.connection.close()
        if self.task is not None:
            self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let a process that starts inside read one thread from its environment, before it imports anything."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, '1'))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def stay_on_one_core(number: int) -> None:
    """Bind this process to one of the cores that it may use, where the system allows it."""
    with contextlib.suppress(AttributeError, OSError):  # not on every system, not in every container
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def _work(connection: Connection, core: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    stay_on_one_core(core)
    with contextlib.suppress(EOFError, OSError):  # the parent has gone
        while True:
            data = connection.recv_bytes()
            connection.send_bytes(_answer(data))


def outcome(function: Callable[[Any], Any], item: Any) -> Any:
    """Return a function's result, or the exception that it raised in a form that survives pickling."""
    try:
        return function(item)
    except Exception as error:  # any failure is this item's
        if not isinstance(error, UserError | OSError):
            error.add_note(traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # many exceptions only fail to come back
            return RuntimeError(f'{type(error).__name__}: {error}')
        return error


def _answer(data: bytes) -> bytes:
    try:
        function, item = pickle.loads(data)
        return pickle.dumps(outcome(function, item))
    except Exception as error:  # neither can every item be read here nor every result be sent
        return pickle.dumps(RuntimeError(f'{type(error).__name__}: {error}'))
