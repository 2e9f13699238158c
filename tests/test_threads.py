"""Work in threads: the order, how far it runs ahead, and what an error does."""

from __future__ import annotations

import pickle
import threading
import time
from contextlib import closing

import pytest

from unisal.threads import BackgroundWorker, FreshLock, drawn_ahead, in_threads


def test_results_come_in_order_whichever_is_done_first():
    def slow_at_first(n):
        time.sleep(0.02 if n == 0 else 0)
        return n * n

    assert list(in_threads(slow_at_first, range(20), workers=4, ahead=8)) == [
        n * n for n in range(20)
    ]


def test_it_runs_ahead_but_not_far():
    taken = []

    def items():
        for n in range(50):
            taken.append(n)
            yield n

    for n, _ in enumerate(in_threads(lambda n: n, items(), workers=2, ahead=3)):
        assert len(taken) <= n + 4
    assert len(taken) == 50


def test_work_is_done_by_other_threads():
    names = set(in_threads(lambda _: threading.current_thread().name, range(8), workers=2))
    assert threading.current_thread().name not in names
    assert 1 <= len(names) <= 2


def test_an_error_comes_after_the_results_before_it():
    def fail_at_3(n):
        if n == 3:
            raise ValueError("three")
        return n

    results = in_threads(fail_at_3, range(9), ahead=5)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_an_error_of_the_items_comes_in_its_turn():
    def items():
        yield from range(3)
        raise ValueError("no more")

    results = in_threads(lambda n: n, items(), ahead=10)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(results)


def test_what_nobody_wants_is_not_computed():
    done = []
    results = in_threads(lambda n: done.append(n) or n, range(1000), ahead=2)
    assert next(results) == 0
    results.close()
    assert len(done) <= 4
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def no_threads_left():
    return not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


# ---- items that another thread draws ------------------------------------------------------


def test_items_are_drawn_in_order_by_another_thread_and_not_far_ahead():
    drawn, drawers = [], set()

    def items():
        for n in range(30):
            drawn.append(n)
            drawers.add(threading.current_thread().name)
            yield n

    taken = []
    for n in drawn_ahead(items(), ahead=3):
        taken.append(n)
        assert len(drawn) <= n + 5
    assert taken == list(range(30))
    assert len(drawers) == 1 and threading.current_thread().name not in drawers
    assert list(drawn_ahead([], ahead=3)) == []


def test_an_error_of_drawn_items_comes_in_its_turn():
    def items():
        yield from range(3)
        raise ValueError("no more")

    drawn = drawn_ahead(items(), ahead=10)
    assert [next(drawn) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(drawn)


def test_a_source_of_which_no_more_is_wanted_is_closed():
    closed = []

    def items():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    with closing(drawn_ahead(items(), ahead=2)) as drawn:
        assert next(drawn) == 1
    assert closed == [True] and no_threads_left()


# ---- items that another thread is handed --------------------------------------------------


def test_items_are_handed_on_in_order_and_all_are_done_at_the_end():
    done, names = [], set()

    def slowly(n):
        time.sleep(0.002)
        names.add(threading.current_thread().name)
        done.append(n)

    with BackgroundWorker(slowly, waiting=3) as worker:
        for n in range(20):
            worker.put(n)
            assert len(done) >= n - 4
    assert done == list(range(20))
    assert len(names) == 1 and threading.current_thread().name not in names
    assert no_threads_left()


@pytest.mark.parametrize("at", [3, 19])
def test_an_error_behind_is_raised(at):
    def fail(n):
        if n == at:
            raise ValueError("behind")

    def put_all():
        with BackgroundWorker(fail, waiting=2) as worker:
            for n in range(20):
                worker.put(n)

    with pytest.raises(ValueError, match="behind"):
        put_all()
    assert no_threads_left()


def test_what_waits_is_given_up_when_the_block_fails():
    done, go_on = [], threading.Event()

    def wait(n):
        go_on.wait(10)
        done.append(n)

    def fail():
        with BackgroundWorker(wait, waiting=10) as worker:
            for n in range(5):
                worker.put(n)
            go_on.set()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(done) <= 5 and no_threads_left()


def test_the_copy_of_a_fresh_lock_is_held_by_nobody():
    lock = FreshLock()
    with lock:
        copy = pickle.loads(pickle.dumps(lock))
        with copy:  # or this would wait for ever
            assert not lock._lock.acquire(blocking=False)
