"""Work on several threads, with results in order."""

from __future__ import annotations

import collections
import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from deeplab.utils.resources import core_count

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITING = 4  # batches for each thread
_BATCH_SECONDS, MAX_BATCH = 0.008, 16


def worker_count(wanted: int = 0) -> int:
    """Return the number of threads: the wanted one, or for 0 one per processor core that this process may use."""
    return wanted or core_count()


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 0
) -> Generator[Result, None, None]:
    """Yields `map(function, items)`, computed on several threads, in the order of the items.

    Threads, not processes: reading and decoding images release Python's lock, and results need not be copied between
    processes (measured on two cores, 500x375 images: benchmarks/build_data.py). Quick calls are handed to the threads
    several at a time, since handing over and waking up cost as much as a call of .3 ms.

    Args:
      function: called on each item.
      items: consumed little farther than results are asked for: WAITING batches for each thread, of up to 16 calls.
      workers: number of threads; 0 = as many as make it faster, at most one per processor core.
    """
    allowed = _Allowed(worker_count(workers), is_fixed=workers > 0)
    remaining = iter(items)
    pending: collections.deque[Future[_Batch[Result]]] = collections.deque()
    size = 1
    with ThreadPoolExecutor(allowed.most) as pool:
        try:
            while batch := list(itertools.islice(remaining, size)):
                if len(pending) == WAITING * allowed.most:
                    finished = pending.popleft().result()
                    size = min(2 * size, MAX_BATCH, max(1, int(_BATCH_SECONDS / max(finished.seconds_each, 1e-6))))
                    allowed.adapt(len(finished.results), finished.seconds_each, time.perf_counter())
                    yield from finished.opened()
                pending.append(pool.submit(_call, function, batch, allowed))
            while pending:
                yield from pending.popleft().result().opened()
        finally:  # a reader that stops early leaves no work behind
            allowed.is_over = True
            for future in pending:
                future.cancel()


@dataclass(frozen=True)
class _Batch(Generic[Result]):
    """Results of calls one after the other, up to the first one that failed, and the seconds that each took."""

    results: list[Result]
    error: Exception | None
    seconds_each: float

    def opened(self) -> Iterator[Result]:
        yield from self.results
        if self.error is not None:
            raise self.error


def _call(function: Callable[[Item], Result], items: Sequence[Item], allowed: _Allowed) -> _Batch[Result]:
    results: list[Result] = []
    error = None
    with allowed:
        start = time.perf_counter()
        try:
            for item in items:
                if allowed.is_over:
                    break
                results.append(function(item))
        except Exception as found:
            error = found
        return _Batch(results, error, (time.perf_counter() - start) / len(items))


class _Allowed:
    """How many threads run at a time: found by trying, since threads that need Python's lock hinder each other.

    Reading and checking small files on two threads takes 1.5 times the processor time of one thread and is no faster;
    on eight it takes 2.4 times and is slower. Decoding images is faster on every further core. So it starts with one
    thread and doubles the number while more calls end per second; from time to time it starts again, since the files
    may be others now, or other work disturbed.

    Args:
      most: the largest number.
      is_fixed: that number run from the beginning to the end.

    Attributes:
      now: the number.
      is_over: set when results are no longer wanted; calls that have not begun are left out.
    """

    TRIAL_SECONDS, SECONDS_BETWEEN = 0.1, 10.0
    GAIN = 1.2  # by which the rate must grow for twice as many threads to be kept
    SLOW_CALL = 0.02  # seconds; the lock plays no role in such calls

    def __init__(self, most: int, *, is_fixed: bool):
        self.most, self.now, self.is_over = most, most if is_fixed else 1, False
        self._is_fixed = is_fixed or most == 1
        self._running, self._changed = 0, threading.Condition()
        self._to_skip = WAITING * most  # batches until calls are counted
        self._calls, self._start, self._seconds = 0, 0.0, self.TRIAL_SECONDS
        self._fewer, self._rate_of_fewer = 1, 0.0  # threads and calls per second of the trial before

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._running < self.now)
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def adapt(self, calls: int, seconds_each: float, clock: float) -> None:
        """Takes note of a batch of calls that ended, and changes the number.

        Args:
          calls: how many they were.
          seconds_each: how long each took.
          clock: the time, in seconds.
        """
        if self._is_fixed:
            return
        if seconds_each > self.SLOW_CALL:
            self._try(self.most, self.SECONDS_BETWEEN)
        elif self._to_skip:
            self._to_skip -= 1
            self._calls, self._start = 0, clock
        else:
            self._calls += calls
            if clock >= self._start + self._seconds:
                self._decide(self._calls / (clock - self._start))

    def _decide(self, rate: float) -> None:
        if self._seconds > self.TRIAL_SECONDS:
            self._rate_of_fewer = 0.0
            self._try(1, self.TRIAL_SECONDS)
        elif rate < self.GAIN * self._rate_of_fewer:
            self._try(self._fewer, self.SECONDS_BETWEEN)
        elif self.now == self.most:
            self._try(self.most, self.SECONDS_BETWEEN)
        else:
            self._fewer, self._rate_of_fewer = self.now, rate
            self._try(min(2 * self.now, self.most), self.TRIAL_SECONDS)

    def _try(self, threads: int, seconds: float) -> None:
        self._to_skip, self._seconds = WAITING * self.most, seconds  # what waits was computed before
        with self._changed:
            self.now = threads
            self._changed.notify_all()


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
