"""Work on several threads, with results in order."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count(wanted: int = 0) -> int:
    """Return the number of threads: the wanted one, or for 0 one per processor core that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and `taskset` allow fewer than there are
        return wanted or len(os.sched_getaffinity(0))
    return wanted or os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0, waiting: int = 0
) -> Generator[Result, None, None]:
    """Yields `map(function, items)`, computed on several threads, in the order of the items.

    Threads, not processes: reading and decoding images release Python's lock, and results need not be copied between
    processes (measured on two cores, 500x375 images: benchmarks/build_data.py).

    Args:
      function: called on each item.
      items: consumed only as far as results are asked for.
      workers: number of threads; 0 = one per processor core.
      waiting: maximum number of results in memory; 0 = four per thread.
    """
    workers = worker_count(workers)
    limit = waiting or 4 * workers
    pending: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                if len(pending) == limit:
                    yield pending.popleft().result()
                pending.append(pool.submit(function, item))
            while pending:
                yield pending.popleft().result()
        finally:  # a reader that stops early leaves no work behind
            for future in pending:
                future.cancel()


class WriteBehind:
    """Runs calls in two threads, so that compressing images does not hold up the model.

    At most a few wait, so memory stays bounded. An error of a call is raised by a later `submit` or at the end.
    """

    MAX_WAITING = 16

    def __enter__(self) -> WriteBehind:
        self._pool = ThreadPoolExecutor(2)
        self._waiting: collections.deque[Future] = collections.deque()
        return self

    def submit(self, function: Callable, *args: object) -> Future:
        """Call `function(*args)` soon."""
        future = self._pool.submit(function, *args)
        self._waiting.append(future)
        while len(self._waiting) > self.MAX_WAITING:
            self._waiting.popleft().result()
        return future

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for future in self._waiting:
                future.result()
