"""Work on several threads, with results in order."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from deeplab.utils.resources import core_count

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count(wanted: int = 0) -> int:
    """Return the number of threads: the wanted one, or for 0 one per processor core that this process may use."""
    return wanted or core_count()


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
    """Runs calls in threads beside the model, so that compressing and writing files does not hold it up.

    There are more threads than processor cores, because most of the time of a small file is the wait until the disk has
    it (2 ms of work and 40 ms of waiting were measured for a PNG on a busy disk). What waits is bounded in number and
    bytes. An error of a call is raised by a later `submit` or at the end.
    """

    THREADS, MAX_WAITING, MAX_BYTES = 8, 64, 256 << 20

    def __enter__(self) -> WriteBehind:
        self._pool = ThreadPoolExecutor(self.THREADS)
        self._waiting: collections.deque[tuple[Future, int]] = collections.deque()
        self._bytes = 0
        return self

    def submit(self, function: Callable[..., Result], *args: object, size: int = 0) -> Future[Result]:
        """Call `function(*args)` soon.

        Args:
          function: what to call.
          *args: its arguments.
          size: bytes that they hold in memory until then.
        """
        future = self._pool.submit(function, *args)
        self._waiting.append((future, size))
        self._bytes += size
        while self._waiting[0][0].done() or self._is_full():
            first, its_size = self._waiting.popleft()
            self._bytes -= its_size
            first.result()
            if not self._waiting:
                break
        return future

    def _is_full(self) -> bool:
        return len(self._waiting) > 1 and (len(self._waiting) > self.MAX_WAITING or self._bytes > self.MAX_BYTES)

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for future, _size in self._waiting:
                future.result()
