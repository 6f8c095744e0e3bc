"""Work on several threads: results in order, few in memory, none left over."""

import itertools

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
    assert parallel.worker_count(3) == 3 and parallel.worker_count() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS and Windows
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert parallel.worker_count() == 1


def test_a_failed_write_behind_is_not_lost():
    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), parallel.WriteBehind() as writer:
        writer.submit(fail)
    with parallel.WriteBehind() as writer:
        future = writer.submit(lambda: 3)
    assert future.result() == 3
