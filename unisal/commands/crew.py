"""What commands that work on many workers share: where the network runs there, what failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import NamedTuple, TypeVar

from unisal.cluster.workers import Crew, Done, connected, on_workers, with_parts
from unisal.errors import UserError, cause
from unisal.files import natural_order
from unisal.remote.mirror import Courier, Mirror
from unisal.threads import as_they_end

X = TypeVar("X", bound=Hashable)
Y = TypeVar("Y")

PER_TASK = 8
"""Pictures that a worker predicts before it reports: few enough that all end at about one time."""

HERE = 2
"""Tasks that one process does at a time where files lie elsewhere: one pulls while one computes."""

Indices = tuple[int, ...]
"""Some videos or images of a data set, by number from 0."""

log = logging.getLogger(__name__)


def worker_device(device: str, crew: Crew) -> str:
    """Return where the network runs: as was asked for, or in workers on the CPU.

    Raises:
        UserError: a GPU was asked for in workers that have none.
    """
    if not crew.is_wanted or crew.gpus:
        return device
    if device not in ("auto", "cpu"):
        raise UserError(f"device is {device!r}, but workers predict on the CPU; use --device=cpu")
    return "cpu"


def batches(indices: Sequence[int], is_video: bool = False, size: int = PER_TASK) -> list[Indices]:
    """Divide the videos or images of a data set into tasks.

    Args:
        indices: their numbers.
        is_video: whether they are videos, each of which is a task.
        size: how many images a task has at most.
    """
    size = 1 if is_video else size
    return [tuple(indices[i : i + size]) for i in range(0, len(indices), size)]


def courier_of(mirror: Mirror | None, crew: Crew) -> Courier | None:
    """Return who brings files from elsewhere, to workers or to threads that stand in for them."""
    if mirror is None:
        return None
    return mirror.courier if crew.is_wanted else mirror.courier.divided(HERE)


@contextmanager
def team(crew: Crew, courier: Courier | None = None) -> Iterator[Team]:
    """Connect with workers, or stand in for them here in threads, in a `with` statement.

    Args:
        crew: the workers; if none are wanted, the courier's tasks are done here.
        courier: brings and takes away the files of tasks, if they lie elsewhere.

    Yields:
        Who does the tasks.
    """
    if not crew.is_wanted:
        assert courier is not None and courier.stores.stopped is not None
        yield Team(0, 0, courier.stores.stopped)
        return
    with connected(crew) as n:
        yield Team(n, crew.gpus, None)


class Team(NamedTuple):
    """Who does tasks.

    Attributes:
        workers: how many workers there are to be; 0 for threads of this process.
        gpus: see `Crew`.
        stopped: set when threads are to end.
    """

    workers: int
    gpus: float
    stopped: Event | None

    def do(
        self,
        start: Callable[[], Callable[[X], Y]],
        tasks: Sequence[X],
        split: Callable[[X], Sequence[X]] | None = None,
    ) -> Generator[Done[X, Y], None, None]:
        """Do tasks; see `unisal.cluster.workers.on_workers`, with `split` `with_parts`."""
        if self.stopped is not None:
            return self._in_threads(start, tasks, self.stopped)
        if split is None:
            return on_workers(start, tasks, self.workers, gpus=self.gpus)
        return with_parts(start, tasks, self.workers, split, gpus=self.gpus)

    def _in_threads(
        self, start: Callable[[], Callable[[X], Y]], tasks: Sequence[X], stopped: Event
    ) -> Generator[Done[X, Y], None, None]:
        function = start()

        def do(task: X) -> Done[X, Y]:
            try:
                return Done(task, function(task), None)
            except Exception as error:
                return Done(task, None, error)

        yield from as_they_end(do, tasks, HERE, stopped)


def say_failures(failed: Sequence[tuple[Path | str, Exception]]) -> None:
    """Log a table of what failed and why, in natural order; nothing if nothing did."""
    if not failed:
        return
    rows = [(str(p), cause(e)) for p, e in sorted(failed, key=lambda row: natural_order(row[0]))]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"  {name:<{width}}  {reason.removeprefix(name).lstrip(': ')}" for name, reason in rows
    ]
    log.error("%d failed:\n%s", len(rows), "\n".join(lines))
