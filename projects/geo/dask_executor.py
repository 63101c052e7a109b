"""A function over many items on the workers of a Dask cluster: one on this machine, a running one, or Slurm's."""

import contextlib
import logging
import math
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from projects.engine.errors import UserError
from projects.geo.worker_processes import outcome

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.deploy import Cluster

AHEAD = 2  # items sent per thread of the cluster: none of them waits for this process
LOOK_EVERY = 2.0  # seconds
TIMEOUT = 30.0  # seconds to reach a scheduler
LONE, TOGETHER = True, False
ADDRESS = re.compile(r'((tcp|tls|ucx|wss?)://)?[^/\s]+:\d+|inproc://.+')


class DaskExecutor:
    """A Dask cluster; see :class:`projects.geo.executors.Executor`.

    Args:
        cluster: Address of a scheduler (``tcp://host:8786``) or a cluster object.
        timeout: Seconds to reach the scheduler.
        patience: Seconds to wait for a first worker; None for as long as it takes, in a queue of Slurm for example.

    Dask itself gives an item whose worker died to other workers some times (``allowed-failures``). An item that used
    that up may only have shared workers with the one at fault: it is tried once more, alone, when the others are done,
    and then reported.

    Raises:
        UserError: The address is none.
    """

    def __init__(self, cluster: 'str | Cluster', timeout: float = TIMEOUT,
                 patience: float | None = TIMEOUT) -> None:
        if isinstance(cluster, str) and not ADDRESS.fullmatch(cluster):
            raise UserError(f'scheduler: expected an address tcp://HOST:PORT, found {cluster!r}')
        self.cluster = cluster
        self.timeout = timeout
        self.patience = patience
        self._threads, self._looked = 0, -math.inf
        self.name = cluster if isinstance(cluster, str) else getattr(cluster, 'scheduler_address', str(cluster))

    def run(self, function: Callable[[Any], Any], items: Sequence[Any], keys: Sequence[Hashable] | None = None,
            on_result: Callable[[Hashable, Any], None] | None = None) -> Iterator[tuple[Hashable, Any]]:
        """See :meth:`projects.geo.executors.Executor.run`."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        names = list(range(len(items)) if keys is None else keys)
        todo = deque((key, item, TOGETHER) for key, item in zip(names, items, strict=True))
        suspects: deque = deque()
        running: dict[Future, tuple[Hashable, Any, bool]] = {}
        finished: SimpleQueue[Future] = SimpleQueue()
        done = 0
        client = self._connect()
        self._looked = -math.inf
        try:
            while todo or suspects or running:
                try:
                    self._submit(client, function, todo, suspects, running, finished)
                except OSError as error:
                    raise self._lost(done, len(names)) from error
                future = self._next(client, finished, done, len(names))
                key, item, lone = running.pop(future)
                try:
                    result = future.result()
                except KilledWorker as death:
                    if not lone:
                        suspects.append((key, item, LONE))
                        continue
                    result = UserError(f'{key}: the workers that took it died ({_where(death)})')
                except (CancelledError, FutureCancelledError) as error:
                    raise self._lost(done, len(names)) from error
                except Exception as error:  # any failure is this item's
                    result = error
                done += 1
                if on_result is not None:
                    on_result(key, result)
                yield key, result
        finally:
            with contextlib.suppress(Exception):  # a scheduler that is gone cannot be told
                client.close(timeout=2)

    def _connect(self) -> 'Client':
        from distributed import Client

        logging.getLogger('distributed.batched').setLevel(logging.WARNING)  # else a traceback where a connection ends
        try:
            client = Client(self.cluster, timeout=self.timeout, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(f'scheduler {self.name}: not reachable within {self.timeout:.0f} s; is it running, and is '
                            'this its address?') from error
        try:
            client.wait_for_workers(1, timeout=self.patience)
        except TimeoutError as error:
            client.close(timeout=2)
            raise UserError(f'scheduler {self.name}: expected a worker within {self.patience:.0f} s, found none'
                            ) from error
        return client

    def _submit(self, client: 'Client', function, todo: deque, suspects: deque, running: dict,
                finished: 'SimpleQueue[Future]') -> None:
        while todo and len(running) < self._room(client):
            self._send(client, function, todo.popleft(), running, finished)
        if suspects and not todo and not running:
            self._send(client, function, suspects.popleft(), running, finished)

    def _room(self, client: 'Client') -> int:
        """Items that the cluster should have; its size is looked up now and then, as workers come and go."""
        if time.monotonic() - self._looked > LOOK_EVERY and client.status == 'running':
            self._threads = sum(client.nthreads().values())
            self._looked = time.monotonic()
        return max(1, AHEAD * self._threads)

    def _send(self, client: 'Client', function, task: tuple, running: dict, finished: 'SimpleQueue[Future]') -> None:
        future = client.submit(outcome, function, task[1], pure=False)
        running[future] = task
        future.add_done_callback(finished.put)

    def _next(self, client: 'Client', finished: 'SimpleQueue[Future]', done: int, total: int) -> 'Future':
        while True:
            try:
                return finished.get(timeout=1.0)
            except Empty:
                if client.status != 'running':
                    raise self._lost(done, total) from None

    def _lost(self, done: int, total: int) -> UserError:
        logging.getLogger('distributed.client').setLevel(logging.CRITICAL)  # a traceback for each failed reconnection
        return UserError(f'scheduler {self.name}: lost the connection with {done} of {total} items done; start it '
                         'again, and the same command continues with the missing ones')


def _where(death: Exception) -> str:
    worker = getattr(death, 'last_worker', None)
    return f'the last at {getattr(worker, "address", worker)}'


def slurm_cluster(jobs: int, options: Mapping[str, Any]) -> 'Cluster':
    """Ask Slurm for workers, each a job of one process and one thread.

    Args:
        jobs: Number of jobs.
        options: Of ``dask_jobqueue.SLURMCluster``: queue, account, walltime, memory …

    Raises:
        UserError: This machine has no ``sbatch``, or an option is none of SLURMCluster's.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise UserError(f'slurm: jobs: expected a whole number from 1, found {jobs!r}')
    if shutil.which('sbatch') is None:
        raise UserError('slurm: expected the command sbatch on this machine, found none; run this on a login node')
    import dask
    from dask_jobqueue import SLURMCluster

    # One more attempt is enough; and results of a dead worker are not waited for half a minute.
    dask.config.set({'distributed.scheduler.allowed-failures': 1, 'distributed.comm.timeouts.connect': '10s'})
    try:
        cluster = SLURMCluster(**{'cores': 1, 'processes': 1, 'memory': '4GB', **options})
    except (TypeError, ValueError) as error:
        raise UserError(f'slurm: expected options of dask_jobqueue.SLURMCluster, found {dict(options)} '
                        f'({error})') from error
    cluster.scale(jobs=jobs)
    return cluster
