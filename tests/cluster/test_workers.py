"""Tasks on Ray's workers, some of which are killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from functools import partial

import pytest

from unisal.cluster import workers
from unisal.cluster.workers import Crew, Done, WorkerLost, connected, in_order, on_workers
from unisal.errors import PlaceLost, UserError


class CannotBeSent(Exception):
    """Cannot be made again of its words alone."""

    def __init__(self, said, number):
        super().__init__(said)


def starting(folder):
    """-> a function of a task that notes who began it; kept in here, so that Ray sends it whole."""

    def do(task):
        number, kills = task
        with (folder / f"{number}").open("a") as file:
            file.write(f"{os.getpid()}\n")
        n_begun = len((folder / f"{number}").read_text().splitlines())
        if n_begun <= kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 3:
            raise UserError("three")
        if number == 4:
            return threading.Lock()  # which cannot be sent
        if number == 5:
            raise CannotBeSent("five", 5)
        return number**2

    return do


def failing():
    raise UserError("no such run")


def locally(function, *args):
    """-> a function without a module of the tests, which Ray's workers cannot import."""
    cloudpickle = pytest.importorskip("ray").cloudpickle
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return partial(function, *args)


@pytest.fixture(scope="module")
def two_workers():
    pytest.importorskip("ray")
    with connected(Crew(2)):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_what_a_killed_worker_did_not_finish_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ATTEMPTS", 2)  # each takes the start of a process
    tasks = [(0, 0), (1, 1), (2, 2), (3, 0), (4, 0), (5, 0), (6, 0)]
    done = {d.task[0]: d for d in on_workers(locally(starting, tmp_path), tasks, 2)}
    assert sorted(done) == [0, 1, 2, 3, 4, 5, 6]
    assert {i: done[i].result for i in (0, 1, 6)} == {0: 0, 1: 1, 6: 36}
    assert isinstance(done[2].error, WorkerLost)
    assert type(done[3].error) is UserError and str(done[3].error) == "three"
    begun = {i: (tmp_path / str(i)).read_text().splitlines() for i in done}
    assert {i: len(pids) for i, pids in begun.items()} == {
        0: 1,
        1: 2,
        2: 2,
        3: 1,
        4: 1,
        5: 1,
        6: 1,
    }
    assert "the result cannot be sent" in str(done[4].error)
    assert str(done[5].error) == "CannotBeSent: five"
    assert len(set(begun[1])) == 2 and len(set(begun[2])) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_what_a_worker_raises_at_its_start_ends_the_work():
    with pytest.raises(UserError, match="no such run"):
        list(on_workers(locally(failing), [1, 2], 2))


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize(
    ("crew", "said"),
    [
        (Crew(3), "room for 2 workers, not for 3.*2 CPUs and 0 GPUs"),
        (Crew(1, gpus=0.5), "room for 0 workers, not for 1"),
        (Crew(1, "192.0.2.1:6379"), "connected with the Ray cluster at"),
    ],
)
def test_what_the_cluster_cannot_give_is_not_waited_for(crew, said):
    with pytest.raises(UserError, match=said), connected(crew):
        pass


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_a_cluster_that_the_caller_is_connected_with_is_used():
    with connected(Crew(None, "auto")) as n:
        assert n == 2
    assert list(on_workers(locally(starting, None), [], 2)) == []


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_wrong_numbers_of_workers_are_refused(n):
    with pytest.raises(UserError, match="workers"), connected(Crew(n)):
        pass


def test_without_ray_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'unisal\[cluster\]'"), connected(Crew(2)):
        pass


def test_results_are_put_in_order_and_the_first_failure_is_raised_in_its_turn():
    tasks = "abcd"
    found = [
        Done("c", 3, None),
        Done("a", 1, None),
        Done("d", None, OSError("d")),
        Done("b", 2, None),
    ]
    results = in_order(iter(found), tasks)
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(OSError, match="d"):
        next(results)
    ended = in_order(iter([Done("b", None, None), Done("a", None, None)]), "ab")
    assert list(ended) == [None, None]  # a result may be None


def test_parts_of_what_failed_are_done_again_but_not_where_nothing_can_be_written(monkeypatch):
    errors = {(1, 2): WorkerLost("together"), (3,): WorkerLost("alone"), (4, 5): PlaceLost("full")}
    begun = []

    def on_workers(start, tasks, workers, *, gpus):
        assert (start, workers, gpus) == (None, 2, 0.5)
        for task in tasks:
            begun.append(task)
            yield Done(task, sum(task), errors.get(task))

    monkeypatch.setattr(workers, "on_workers", on_workers)
    tasks = [(1, 2), (3,), (4, 5), (6, 7)]
    split = lambda task: [(part,) for part in task]  # noqa: E731
    done = {d.task: d.error for d in workers.with_parts(None, tasks, 2, split, gpus=0.5)}
    assert begun == [*tasks, (1,), (2,)]
    assert done == {(1,): None, (2,): None, (6, 7): None, **dict(list(errors.items())[1:])}


@pytest.mark.parametrize("address", ["nonsense", "ray://127.0.0.1:10001", "10001", "host:", 7])
def test_an_address_that_cannot_be_one_is_refused(address):
    pytest.importorskip("ray")
    with (
        pytest.raises(UserError, match="it has to be auto or HOST:PORT"),
        connected(Crew(address=address)),
    ):
        pass


@pytest.mark.parametrize("by_variable", [False, True])
def test_where_no_cluster_answers_one_does_not_wait(by_variable, monkeypatch):
    pytest.importorskip("ray")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    if by_variable:
        monkeypatch.setenv("RAY_ADDRESS", address)
    crew = Crew(address="auto" if by_variable else address)
    with (
        pytest.raises(UserError, match=f"no Ray cluster answers at --address={address}: "),
        connected(crew),
    ):
        pass
