"""One function over many items: in this process, in several, or on the workers of a Dask cluster.

A failure belongs to its item: the others finish. Nothing here imports Dask, which costs a second, before it is used.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

from projects.geo.dask_executor import DaskExecutor, slurm_cluster
from projects.geo.worker_processes import ProcessExecutor, outcome

__all__ = ['DaskExecutor', 'Executor', 'ProcessExecutor', 'SerialExecutor', 'slurm_cluster']

Outcome = tuple[Hashable, Any]


class Executor(Protocol):
    """What runs a function over items."""

    def run(self, function: Callable[[Any], Any], items: Sequence[Any], keys: Sequence[Hashable] | None = None,
            on_result: Callable[[Hashable, Any], None] | None = None) -> Iterator[Outcome]:
        """Yield ``(key, result)`` for each item as they finish, in any order.

        Args:
            function: Of one item. Outside this process it and the items have to be importable and picklable.
            items: What to work on.
            keys: One name per item, all different; default: their positions.
            on_result: Called in this process with ``(key, result)`` before it is yielded.

        A result that is an :class:`Exception` says that this item failed: what the function raised, or a
        :class:`~projects.engine.errors.UserError` for an item whose worker died twice over it.

        Raises:
            UserError: The executor itself is lost; what was yielded stays done.
        """


class SerialExecutor:
    """One item after the other, in order, in this process."""

    def run(self, function: Callable[[Any], Any], items: Sequence[Any], keys: Sequence[Hashable] | None = None,
            on_result: Callable[[Hashable, Any], None] | None = None) -> Iterator[Outcome]:
        """See :meth:`Executor.run`."""
        for key, item in zip(range(len(items)) if keys is None else keys, items, strict=True):
            result = outcome(function, item)
            if on_result is not None:
                on_result(key, result)
            yield key, result
