"""Tasks on Ray's workers, which may die: what a lost worker did not finish is done again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Generic, NamedTuple, TypeVar

from unisal.checks import check_count
from unisal.errors import SomeFailed, UserError, cause

X = TypeVar("X", bound=Hashable)
Y = TypeVar("Y")

ATTEMPTS = 3
"""How often a task is begun before it is believed to be what kills its workers."""
INSTALL = "pip install 'unisal[cluster]'"


class WorkerLost(SomeFailed):
    """All workers that began a task have died of it."""


class Done(NamedTuple, Generic[X, Y]):
    """What became of a task."""

    task: X
    result: Y | None
    error: Exception | None
    """Why there is no result."""


def require_ray() -> Any:
    """Import Ray.

    Raises:
        UserError: it is not installed; says how to install it.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise UserError(f"work on many workers needs Ray ({cause(error)}): {INSTALL}") from None


@contextmanager
def connected(address: str | None, workers: int) -> Iterator[None]:
    """Connect with a Ray cluster in a `with` statement, or start one on this machine.

    Args:
        address: of the cluster, `"auto"` for the one that this machine belongs to; None starts one
            with a processor per worker, which ends with the `with` statement.
        workers: how many there will be, at least 1.

    Raises:
        UserError: `workers` is no such number, Ray is not installed, or the cluster is not
            reached.
    """
    check_count(workers, "workers")
    ray = require_ray()
    if ray.is_initialized():  # by the caller, who ends it as well
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if address is None:
        ray.init(address="local", num_cpus=workers, **quiet)
    else:
        del quiet["include_dashboard"]
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"no Ray cluster answers at --address={address}: {cause(error)}; start one with "
                "`ray start --head`, or leave --address out"
            ) from None
    try:
        yield
    finally:
        ray.shutdown()


class _Worker(Generic[X, Y]):
    """Holds what all its tasks need; an actor."""

    def __init__(self, start: Callable[[], Callable[[X], Y]]) -> None:
        self._start = start
        self._function: Callable[[X], Y] | None = None

    def start(self) -> Exception | None:
        """Make what all tasks need; errors come back as values and so keep their types."""
        try:
            self._function = self._start()
        except Exception as error:
            return error
        return None

    def do(self, task: X) -> tuple[Y | None, Exception | None]:
        """Do a task."""
        assert self._function is not None
        try:
            return self._function(task), None
        except Exception as error:
            return None, error


def on_workers(
    start: Callable[[], Callable[[X], Y]],
    tasks: Sequence[X],
    workers: int,
    *,
    cpus: float = 1,
    gpus: float = 0,
) -> Iterator[Done[X, Y]]:
    """Do tasks on workers; to be called within `connected`.

    A worker that dies is replaced, and its task is the next one to be done. A task has to leave
    the same behind whether it is begun once or more often.

    Args:
        start: called once per worker, returns the function that does a task there.
        tasks: what to do.
        workers: how many tasks are done at a time at most.
        cpus: processors per worker.
        gpus: GPUs per worker; less than 1 for a share of one.

    Yields:
        What became of each task, as they end. A task that raises, or of which `ATTEMPTS` workers
        die (`WorkerLost`), does not end the others.

    Raises:
        Exception: what `start` raises.
        WorkerLost: `ATTEMPTS` workers in a row die while they start.
    """
    ray = require_ray()
    kind = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_Worker)
    waiting = deque(range(len(tasks)))
    begun, died_starting = [0] * len(tasks), 0
    running: dict[Any, tuple[Any, int | None]] = {}

    def add_worker() -> None:
        actor = kind.remote(start)
        running[actor.start.remote()] = actor, None

    for _ in range(min(workers, len(tasks))):
        add_worker()
    try:
        while running:
            (future,), _ = ray.wait(list(running), num_returns=1)
            actor, i = running.pop(future)
            try:
                answer = ray.get(future)
            except ray.exceptions.RayActorError as error:
                died_starting = died_starting + 1 if i is None else 0
                if died_starting == ATTEMPTS:
                    raise WorkerLost(f"{ATTEMPTS} workers died while starting: {error}") from None
                if i is not None and begun[i] < ATTEMPTS:
                    waiting.appendleft(i)
                elif i is not None:
                    said = f"{ATTEMPTS} workers died of it (killed, or out of memory?)"
                    yield Done(tasks[i], None, WorkerLost(said))
                if waiting:
                    add_worker()
                continue
            if i is not None:
                yield Done(tasks[i], *answer)
            elif answer is not None:
                raise answer
            else:
                died_starting = 0
            if waiting:
                j = waiting.popleft()
                begun[j] += 1
                running[actor.do.remote(tasks[j])] = actor, j
            else:
                ray.kill(actor)
    finally:
        for actor, _ in running.values():
            ray.kill(actor)
