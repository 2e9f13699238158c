"""Tasks on Ray's workers, which may die: what a lost worker did not finish is done again."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import (
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from unisal.checks import check_count, check_number
from unisal.errors import PlaceLost, SomeFailed, UserError, cause

X = TypeVar("X", bound=Hashable)
Y = TypeVar("Y")

AUTO = "auto"
"""The address of the cluster that this machine belongs to."""
ANSWER_SECONDS = 10
"""How long a cluster may take to accept a connection."""
ATTEMPTS = 3
"""How often a task is begun before it is believed to be what kills its workers."""
INSTALL = "pip install 'unisal[cluster]'"
CARRIED = ("TRAIN_DIR", "PRED_DIR", "UNISAL_CACHE_DIR")
"""Variables of the environment that workers take over from who gives them tasks."""
RAY_SETTINGS = {
    # What Ray itself has to say about a worker that died; it is told by whoever gives the tasks.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker died or was killed|actor died|workers? \\(tasks",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables that Ray reads, for those that are not set."""


class WorkerLost(SomeFailed):
    """All workers that began a task have died of it."""


class Done(NamedTuple, Generic[X, Y]):
    """What became of a task."""

    task: X
    result: Y | None
    error: Exception | None
    """Why there is no result."""


@dataclass(frozen=True)
class Crew:
    """Which workers do the work.

    Args:
        workers: how many, at least 1; None for as many as the cluster has room for.
        address: of a Ray cluster, `"auto"` for the one that this machine belongs to; None to start
            one on this machine.
        gpus: GPUs per worker: less than 1 for a share of one, otherwise a whole number.

    Raises:
        UserError: one of them is wrong.
    """

    workers: int | None = None
    address: str | None = None
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_count(self.workers, "workers")
        check_number(self.gpus, "worker_gpus")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise UserError(
                f"worker_gpus is {self.gpus}; it has to be less than 1, for a share of a GPU, or a "
                "whole number"
            )
        if self.gpus and not self.is_wanted:
            raise UserError("worker_gpus is for work on many workers; name --workers or --address")

    @property
    def is_wanted(self) -> bool:
        """Whether there are to be workers; otherwise one process does it all."""
        return self.workers is not None or self.address is not None


ONE_PROCESS = Crew()
"""No workers: one process does it all."""


def require_ray() -> Any:
    """Import Ray.

    Raises:
        UserError: it is not installed; says how to install it.
    """
    with _variables(RAY_SETTINGS):
        try:
            return import_module("ray")
        except ImportError as error:
            raise UserError(f"work on many workers needs Ray ({cause(error)}): {INSTALL}") from None


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment that are not set, in a `with` statement."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextmanager
def connected(crew: Crew) -> Iterator[int]:
    """Connect with a Ray cluster in a `with` statement, or start one on this machine.

    Where the caller is connected already, that connection is used and stays.

    Args:
        crew: which workers there will be. A cluster on this machine has a processor for each.

    Yields:
        How many workers there are to be.

    Raises:
        UserError: Ray is not installed, the cluster is not reached or is another one than the
            caller's, or it has no room for so many workers.
    """
    ray = require_ray()
    if ray.is_initialized():
        _check_same_cluster(ray, crew.address)
        yield _number_of_workers(ray, crew)
        return
    _begin(ray, crew)
    try:
        yield _number_of_workers(ray, crew)
    finally:
        ray.shutdown()


def _begin(ray: Any, crew: Crew) -> None:
    """Connect with a cluster, or start one; signals end the process as they did before."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if crew.address is None:
        options |= {"address": "local", "num_cpus": crew.workers, "include_dashboard": False}
    else:
        _check_answers(crew.address)
        options["address"] = crew.address
    try:
        with _variables(RAY_SETTINGS):
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if crew.address is None:
            raise UserError(f"no workers can be started here: {cause(error)}") from None
        raise _no_answer(crew.address, error) from None
    finally:
        if in_main and handler is not None:  # Ray would end this process without its `finally`
            signal.signal(signal.SIGTERM, handler)


def _check_answers(address: str) -> None:
    """Check that something listens where a cluster should be: Ray itself tries for minutes."""
    place = str(os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address)
    if place == AUTO:
        return  # Ray looks for a cluster of this machine, and says at once if there is none
    host, _, port = place.rpartition(":")
    if "://" in place or not host or not port.isdecimal():
        raise UserError(f"address is {place}; it has to be {AUTO} or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(place, error) from None


def _no_answer(address: str, error: Exception) -> UserError:
    """Return the error that there is no cluster."""
    return UserError(
        f"no Ray cluster answers at --address={address}: {cause(error)}; start one with "
        "`ray start --head`, or leave --address out"
    )


def _check_same_cluster(ray: Any, address: str | None) -> None:
    """Check that the cluster that is asked for is the one with which there is a connection."""
    there = ray.get_runtime_context().gcs_address
    if address not in (None, AUTO, there):
        raise UserError(
            f"address is {address}, but this process is connected with the Ray cluster at {there}; "
            "call ray.shutdown() first, or leave address out"
        )


def _number_of_workers(ray: Any, crew: Crew) -> int:
    """Return how many workers there are to be.

    Raises:
        UserError: the machines have no room for them, so that they would be waited for for ever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_room(node, crew.gpus) for node in nodes)
    wanted = room if crew.workers is None else crew.workers
    if wanted > room or room == 0:
        has = [f"{sum(node.get(k, 0) for node in nodes):g} {k}s" for k in ("CPU", "GPU")]
        each = f"a CPU and {crew.gpus:g} GPUs" if crew.gpus else "a CPU"
        raise UserError(
            f"there is room for {room} workers, not for {max(wanted, 1)}: each takes {each}, and "
            f"the {len(nodes)} machines of the cluster have {' and '.join(has)}"
        )
    return wanted


def _room(resources: Mapping[str, float], gpus: float) -> int:
    """Return how many workers a machine has room for; a worker does not share out over GPUs."""
    n, n_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpus:
        n = min(n, n_gpus * int(1 / gpus + 1e-9) if gpus < 1 else int(n_gpus // gpus))
    return n


class _Worker(Generic[X, Y]):
    """Holds what all its tasks need; an actor."""

    def __init__(
        self, start: Callable[[], Callable[[X], Y]], folder: Path, variables: Mapping[str, str]
    ) -> None:
        self._start = start
        self._place = folder, variables
        self._function: Callable[[X], Y] | None = None

    def start(self) -> Exception | None:
        """Make what all tasks need; errors come back as values and so keep their types."""
        folder, variables = self._place
        os.environ.update(variables)
        try:
            os.chdir(folder)
        except OSError as error:
            return UserError(
                f"{folder} is not on the worker's machine: {cause(error)}; all machines need the "
                "same folders"
            )
        try:
            self._function = self._start()
        except Exception as error:
            return _sendable_error(error)
        return None

    def do(self, task: X) -> tuple[Y | None, Exception | None]:
        """Do a task."""
        assert self._function is not None
        try:
            result = self._function(task)
        except Exception as error:
            return None, _sendable_error(error)
        try:
            require_ray().cloudpickle.dumps(result)
        except Exception as error:
            return None, SomeFailed(f"the result cannot be sent: {cause(error)}")
        return result, None


def _sendable_error(error: Exception) -> Exception:
    """Return an error, or its words where it does not survive being sent."""
    pickle = require_ray().cloudpickle
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        pass
    return SomeFailed(f"{type(error).__name__}: {' '.join(str(error).split())}")


def on_workers(
    start: Callable[[], Callable[[X], Y]],
    tasks: Sequence[X],
    workers: int,
    *,
    cpus: float = 1,
    gpus: float = 0,
) -> Generator[Done[X, Y], None, None]:
    """Do tasks on workers; to be called within `connected`.

    A worker that dies is replaced, and its task is the next one to be done. A task has to leave
    the same behind whether it is begun once or more often. Workers work in this process's folder.

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
    lost = tuple(
        getattr(ray.exceptions, name)
        for name in ("RayActorError", "WorkerCrashedError", "OutOfMemoryError", "ObjectLostError")
    )
    place = Path.cwd(), {name: os.environ[name] for name in CARRIED if name in os.environ}
    waiting = deque(range(len(tasks)))
    begun, died_starting = [0] * len(tasks), 0
    running: dict[Any, tuple[Any, int | None]] = {}

    def add_worker() -> None:
        actor = kind.remote(start, *place)
        running[actor.start.remote()] = actor, None

    for _ in range(min(workers, len(tasks))):
        add_worker()
    try:
        # Workers that still start when there is nothing left for them are not waited for.
        while waiting or any(i is not None for _, i in running.values()):
            (future,), _ = ray.wait(list(running), num_returns=1)
            actor, i = running.pop(future)
            try:
                answer = ray.get(future)
            except lost as error:
                ray.kill(actor)
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
            except ray.exceptions.RayError as error:  # what came back cannot be read here
                if i is None:
                    raise WorkerLost(f"no worker can start: {cause(error)}") from None
                answer = None, SomeFailed(cause(error))
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


def with_parts(
    start: Callable[[], Callable[[X], Y]],
    tasks: Sequence[X],
    workers: int,
    split: Callable[[X], Sequence[X]],
    *,
    gpus: float = 0,
) -> Generator[Done[X, Y], None, None]:
    """Do tasks on workers; the parts of those that failed, maybe for one of them, again one by one.

    Args:
        start: see `on_workers`.
        tasks: what to do.
        workers: see `on_workers`.
        split: returns the parts of a task that failed as a whole; one or none if it has none.
        gpus: see `on_workers`.

    Yields:
        What became of each task, or instead of each of its parts, as they end.

    Raises:
        Exception: as in `on_workers`.
    """
    parts: list[X] = []
    with closing(on_workers(start, tasks, workers, gpus=gpus)) as all_done:
        for done in all_done:
            is_whole = done.error is None or isinstance(done.error, PlaceLost)
            found = () if is_whole else split(done.task)
            if len(found) > 1:
                parts += found
            else:
                yield done
    with closing(on_workers(start, parts, workers, gpus=gpus)) as all_done:
        yield from all_done


def in_order(all_done: Iterable[Done[X, Y]], tasks: Sequence[X]) -> Iterator[Y]:
    """Return results in the order of the tasks, those that come too early kept until their turn.

    Args:
        all_done: what became of the tasks, as they end.
        tasks: in order.

    Yields:
        The result of each.

    Raises:
        Exception: why a task has none, when its turn has come.
    """
    place, early, due = {task: i for i, task in enumerate(tasks)}, dict[int, Done[X, Y]](), 0
    for done in all_done:
        early[place[done.task]] = done
        while (next_one := early.pop(due, None)) is not None:
            if next_one.error is not None:
                raise next_one.error
            due += 1
            yield cast("Y", next_one.result)
