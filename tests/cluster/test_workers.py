"""Tasks on Ray's workers, some of which are killed."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial

import pytest

from unisal.cluster import workers
from unisal.cluster.workers import WorkerLost, connected, on_workers
from unisal.errors import UserError


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
    with connected(None, 2):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_what_a_killed_worker_did_not_finish_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ATTEMPTS", 2)  # each takes the start of a process
    tasks = [(0, 0), (1, 1), (2, 2), (3, 0), (4, 0), (5, 0)]
    done = {d.task[0]: d for d in on_workers(locally(starting, tmp_path), tasks, 2)}
    assert sorted(done) == [0, 1, 2, 3, 4, 5]
    assert {i: done[i].result for i in (0, 1, 4, 5)} == {0: 0, 1: 1, 4: 16, 5: 25}
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
    }
    assert len(set(begun[1])) == 2 and len(set(begun[2])) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_what_a_worker_raises_at_its_start_ends_the_work():
    with pytest.raises(UserError, match="no such run"):
        list(on_workers(locally(failing), [1, 2], 2))


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_wrong_numbers_of_workers_are_refused(n):
    with pytest.raises(UserError, match="workers"), connected(None, n):
        pass


def test_without_ray_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'unisal\[cluster\]'"), connected(None, 2):
        pass
