"""Work on several threads: results in order, few in memory, none left over."""

import itertools
import threading
import time

import pytest

from deeplab.utils import parallel


def test_results_come_in_order_and_few_wait():
    done = []
    for number, result in enumerate(
        parallel.ordered_map(lambda n: done.append(n) or n, itertools.count(), workers=2, waiting=3)
    ):
        assert result == number
        assert len(done) <= number + 1 + 3
        if number == 50:
            break


def test_an_error_reaches_the_reader_at_its_place():
    results = parallel.ordered_map(lambda n: 1 // (n - 2), range(4), workers=2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_worker_count(monkeypatch):
    monkeypatch.setattr(parallel, "core_count", lambda: 5)
    assert parallel.worker_count(3) == 3 and parallel.worker_count() == 5


def test_a_failed_write_behind_is_not_lost():
    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), parallel.WriteBehind() as writer:
        writer.submit(fail)
    with parallel.WriteBehind() as writer:
        future = writer.submit(lambda: 3)
    assert future.result() == 3


def test_many_writes_wait_for_the_disk_at_the_same_time():
    together = threading.Barrier(parallel.WriteBehind.THREADS, timeout=60)
    with parallel.WriteBehind() as writer:
        futures = [writer.submit(together.wait) for _ in range(parallel.WriteBehind.THREADS)]
    assert sorted(future.result() for future in futures) == list(range(parallel.WriteBehind.THREADS))


@pytest.mark.parametrize(("size", "limit"), [(0, parallel.WriteBehind.MAX_WAITING), (100 << 20, 2), (2**40, 1)])
def test_what_waits_is_bounded_in_number_and_bytes(size, limit):
    go, most = threading.Event(), 0
    with parallel.WriteBehind() as writer:
        threading.Timer(0.2, go.set).start()
        for _ in range(limit + 1):
            writer.submit(go.wait, size=size)
            most = max(most, len(writer._waiting))
        assert go.is_set() and most == limit


def test_an_error_ends_the_work_soon():
    with pytest.raises(ZeroDivisionError), parallel.WriteBehind() as writer:
        writer.submit(lambda: 1 // 0)
        for _ in range(6000):
            time.sleep(0.01)
            writer.submit(int)
