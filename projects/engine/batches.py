"""Batches that depend on the seed and on their number alone: not on the workers, not on what was loaded before.

MMEngine seeds a worker once, when it starts. A resumed run has new workers, so it would draw other augmentations from
there on, and so would the same run with another ``num_workers``. Here every sample of every batch is drawn under a seed
of its own, made from (run's seed, rank, number of the batch, place in the batch). With a number of views each sample
has that many seeds instead, made from (run's seed, index, view), and the former seed draws the view: augmentation
repeats, and what is computed from it can be kept (``augmentation_seed`` in the ``data_samples``).

The same wrapper names the sample that cannot be read, and the one that a dying worker was reading.
"""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Dataset, get_worker_info

from projects.engine.errors import UserError
from projects.engine.random_state import seed_cpu, undisturbed

TRIES = 10  # other samples tried in place of one that cannot be read
DEAD_WORKER = re.compile(r'DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (.*)')


class Draw(NamedTuple):
    """One sample to load: which one, the seed of its augmentation, and whether that seed comes again."""

    index: int
    seed: tuple[int, ...]
    repeats: bool = False


class SeededBatchSampler:
    """Yield the batches of another batch sampler as lists of :class:`Draw`, from any position on.

    Args:
        batches: A batch sampler: endless over an ``InfiniteSampler``, else one pass over the data.
        seed: The run's seed.
        rank: This process's rank.
        views: Augmentation seeds of each sample, at least 1; None draws a new one each time.
    """

    def __init__(self, batches: Any, seed: int, rank: int = 0, views: int | None = None) -> None:
        if views is not None and (not isinstance(views, int) or views < 1):
            raise UserError(f'augmentation_views: expected None or a whole number of at least 1, found {views!r}')
        self.batches, self.seed, self.rank, self.views = batches, seed, rank, views
        self.sampler = batches.sampler
        self.number = 0  # of the next batch, counted from the start of the run

    @property
    def endless(self) -> bool:
        """Whether one pass never ends."""
        return isinstance(self.sampler, InfiniteSampler)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        number = skip = self.number
        if self.endless:
            self.sampler.skip(0)  # from its start, whatever an iterator before this one took
        else:
            passes, skip = divmod(number, len(self))
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(passes)
        for position, batch in enumerate(self.batches):
            if position < skip:
                continue
            yield [self._draw(index, number, place) for place, index in enumerate(batch)]
            number += 1

    def _draw(self, index: int, number: int, place: int) -> Draw:
        seed = (self.seed, self.rank, number, place)
        if self.views is None:
            return Draw(index, seed)
        view = int(np.random.SeedSequence(seed).generate_state(1)[0]) % self.views
        return Draw(index, (self.seed, int(index), view), repeats=True)


class WatchedDataset(Dataset):
    """A data set that seeds each :class:`Draw`, and tells which sample failed.

    Everything else is the wrapped data set's. With ``replaces_bad`` a sample that cannot be read is replaced by another
    one, drawn by its own seed, and named in the ``bad_samples`` of that one's ``data_samples``.

    Args:
        dataset: A map-style data set; its ``get_data_info`` names samples where there is one.
        workers: Number of data-loader workers.
    """

    def __init__(self, dataset: Any, workers: int) -> None:
        self.dataset = dataset
        self.replaces_bad = False
        # (process id, index of the sample in work or -1) of each worker, in memory that outlives it
        self.at_work = torch.full((max(workers, 1), 2), -1, dtype=torch.int64).share_memory_()

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':  # asked while unpickling, before there is one
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = name in ('dataset', 'replaces_bad', 'at_work')
        object.__setattr__(self if own else self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self._load(index)

    def __getitems__(self, draws: Sequence[Draw | int]) -> list[Any]:
        """Load a batch; torch's fetcher prefers this method."""
        if get_worker_info() is not None:
            return [self._draw(draw) for draw in draws]
        with undisturbed():
            return [self._draw(draw) for draw in draws]

    def name(self, index: int) -> str:
        """Return a sample's id, else its image's file name, else its index."""
        try:
            info = self.dataset.get_data_info(index)
        except Exception:  # the very data may be what is broken
            info = {}
        return _name(info, index)

    def _draw(self, draw: Draw | int) -> Any:
        if not isinstance(draw, Draw):
            return self._load(draw)
        seed = int(np.random.SeedSequence(draw.seed).generate_state(1)[0])
        index, bad = draw.index, []
        while True:
            seed_cpu(seed)
            try:
                item = self._load(index)
            except UserError as error:
                if not self.replaces_bad or len(bad) == TRIES:
                    raise
                bad.append(f'{self.name(index)}: {error}')
                index = int(np.random.default_rng((seed, len(bad))).integers(len(self)))
                continue
            if bad:
                if not (isinstance(item, dict) and hasattr(item.get('data_samples'), 'set_metainfo')):
                    raise UserError(f'sample {bad[0]} (not replaced: these samples have no data_samples to note it in)')
                item['data_samples'].set_metainfo({'bad_samples': bad})
            if draw.repeats and isinstance(item, dict) and hasattr(item.get('data_samples'), 'set_metainfo'):
                item['data_samples'].set_metainfo({'augmentation_seed': draw.seed})
            return item

    def _load(self, index: int) -> Any:
        worker = get_worker_info()
        place = self.at_work[worker.id if worker else 0]
        place[0], place[1] = os.getpid(), index
        try:
            return self.dataset[index]
        except Exception as error:
            if os.environ.get('TERRACE_DEBUG') == '1':
                raise
            told = str(error) if isinstance(error, UserError) else f'{type(error).__name__}: {error}'
            raise UserError(f'sample {self.name(index)}: {told}') from error
        finally:
            place[1] = -1

    def victims(self, pids: set[int]) -> list[str]:
        """Return the names of the samples that these processes were reading."""
        return [self.name(int(index)) for pid, index in self.at_work.tolist() if pid in pids and index >= 0]


def watched(loader: DataLoader) -> DataLoader:
    """Return the loader over a :class:`WatchedDataset`, leaving the process's generators alone."""
    return _rebuilt(loader, WatchedDataset(loader.dataset, loader.num_workers), loader.batch_sampler)


def seeded(loader: DataLoader, seed: int, views: int | None = None) -> DataLoader:
    """Return the loader with a :class:`SeededBatchSampler`; its data set must be a :class:`WatchedDataset`."""
    return _rebuilt(loader, loader.dataset, SeededBatchSampler(loader.batch_sampler, seed, get_rank(), views))


def _rebuilt(loader: DataLoader, dataset: Any, batch_sampler: Any) -> DataLoader:
    inner = loader.worker_init_fn
    if not (isinstance(inner, partial) and inner.func is _start_worker):
        inner = partial(_start_worker, inner)
    return DataLoader(
        dataset, batch_sampler=batch_sampler, num_workers=loader.num_workers, collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=inner,
        multiprocessing_context=loader.multiprocessing_context, generator=torch.Generator(),  # not the global one
        prefetch_factor=loader.prefetch_factor, persistent_workers=loader.persistent_workers)


def _start_worker(inner: Callable[[int], None] | None, worker_id: int) -> None:
    """Leave a scheduler's signals to the training process, which ends its workers when it has saved.

    A scheduler sends SIGTERM to every process of a job; only the training process's own one ends a worker.
    """
    for number in (signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # later threads inherit it
    threading.Thread(target=_obey_the_parent, daemon=True).start()
    if inner is not None:
        inner(worker_id)


def _obey_the_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def naming_dead_workers(loader: DataLoader) -> Iterator[None]:
    """Turn torch's error about a dead worker into one that names the sample it was reading."""
    try:
        yield
    except RuntimeError as error:
        match = DEAD_WORKER.search(str(error))
        if match is None:
            raise
        pids = {int(pid) for pid in match[1].split(',')}
        samples = loader.dataset.victims(pids) if isinstance(loader.dataset, WatchedDataset) else []
        doing = f'while it read sample {", ".join(samples)}' if samples else 'between two samples'
        fate = ' '.join(match[2].split())
        raise UserError(f'data-loader worker {match[1]} {fate} It died {doing}. Killed workers are mostly a lack of '
                        'memory: fewer num_workers; --resume continues') from error


def sample_names(data_batch: Any) -> list[str]:
    """Return the ids (else the image names) of a batch's samples."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    return [_name(sample, number) for number, sample in enumerate(samples or ())]


def _name(info: Any, number: int) -> str:
    return str(info.get('sample_id') or os.path.basename(str(info.get('img_path') or '')) or f'number {number}')
