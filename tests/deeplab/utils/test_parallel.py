"""Work on several threads: results in order, few in memory, none left over."""

import itertools
import threading
import time

import pytest

from deeplab.utils import parallel


def test_results_come_in_order_and_few_wait():
    done = []
    for number, result in enumerate(parallel.ordered_map(lambda n: done.append(n) or n, itertools.count(), workers=2)):
        assert result == number
        assert len(done) <= number + 1 + 2 * parallel.WAITING * parallel.MAX_BATCH
        if number == 500:
            break


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_slow_calls_run_one_by_one_and_quick_ones_in_batches(workers):
    threads, slow = [], 0.05

    def call(number):
        threads.append(threading.get_ident())
        time.sleep(slow if number < 30 else 0)
        return number

    seen = []
    for number in parallel.ordered_map(call, range(400), workers):
        seen.append((number, len(threads)))
    assert [number for number, _ in seen] == list(range(400))
    ahead = [calls - number for number, calls in seen]
    most = parallel.worker_count(workers)
    assert max(ahead[:10]) <= (parallel.WAITING + 1) * most  # each slow call is handed over alone
    assert max(ahead) > (parallel.WAITING + 1) * most or most > 16
    assert len(set(threads)) <= most


def test_an_error_after_the_first_items_of_a_batch_reaches_the_reader_at_its_place():
    seen = []
    with pytest.raises(ZeroDivisionError):
        for result in parallel.ordered_map(lambda n: n // (n != 313), range(400), workers=2):
            seen.append(result)
    assert seen == list(range(313))


def test_the_rest_of_a_batch_is_left_out_when_the_reader_has_stopped():
    allowed = parallel._Allowed(1, is_fixed=True)

    def call(number):
        allowed.is_over = number == 2
        return number

    assert parallel._call(call, range(16), allowed).results == [0, 1, 2]
    results = parallel.ordered_map(lambda number: number, range(400), workers=2)
    assert next(results) == 0
    results.close()
    with pytest.raises(StopIteration):
        next(results)


def threads_after(rate, calls=200_000, most=6):
    """The number of threads that is kept where `rate(threads)` calls end per second."""
    allowed, clock, numbers = parallel._Allowed(most, is_fixed=False), 0.0, []
    for _ in range(calls // 16):
        clock += 16 / rate(allowed.now)
        allowed.adapt(16, 1 / rate(1), clock)
        numbers.append(allowed.now)
    return max(set(numbers), key=numbers.count), set(numbers)


def test_as_many_threads_run_as_make_it_faster():
    assert threads_after(lambda threads: 2000) == (1, {1, 2})
    assert threads_after(lambda threads: 2000 / threads) == (1, {1, 2})
    assert threads_after(lambda threads: 2000 * threads) == (6, {1, 2, 4, 6})
    assert threads_after(lambda threads: 2000 * min(threads, 2)) == (2, {1, 2, 4})


def test_slow_calls_have_all_threads_at_once_and_a_given_number_stays():
    allowed = parallel._Allowed(6, is_fixed=False)
    allowed.adapt(1, 0.05, 1.0)
    assert allowed.now == 6
    fixed = parallel._Allowed(3, is_fixed=True)
    for clock in range(100):
        fixed.adapt(16, 0.001, float(clock))
        assert fixed.now == 3


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
