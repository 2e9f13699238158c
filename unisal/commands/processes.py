"""Commands that several processes run together: started by torchrun, they find each other.

`torchrun --nproc-per-node=N run.py train ...` starts N processes and tells each of them in
variables of the environment who it is. What goes wrong in one of them is printed once and ends all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore, rendezvous  # type: ignore[attr-defined]

from unisal.checks import check_number
from unisal.commands.cli import Terminated
from unisal.commands.progress import TERMINAL
from unisal.device import find_device
from unisal.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISTAKE,
    EXIT_SOME_FAILED,
    ProcessLost,
    SomeFailed,
    UserError,
)
from unisal.progress import SILENT, Progress
from unisal.train.config import TrainerConfig
from unisal.train.interrupt import DeferredInterrupt
from unisal.train.processes import Processes

NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets besides WORLD_SIZE."""
RESTARTS, MAX_RESTARTS = "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"
BEAT_SECONDS, GRACE_SECONDS = 0.5, 3.0
"""How often a process shows that it is alive; how long it is waited for that."""
NOTE_SECONDS = 5.0
"""How long an exchange of notes may take before it is given up."""


def n_processes() -> int:
    """Return how many processes were started together; 1 without torchrun."""
    said = os.environ.get("WORLD_SIZE", "1")
    return int(said) if said.isdecimal() else 1


def is_restart() -> bool:
    """Return whether torchrun has started the processes anew, after one of them had failed."""
    return os.environ.get(RESTARTS, "0") != "0"


def may_restart() -> bool:
    """Return whether torchrun will start the processes anew when one of them fails."""
    return os.environ.get(MAX_RESTARTS, "0") != "0"


@contextmanager
def all_processes(options: Mapping[str, Any]) -> Iterator[Processes]:
    """Run what all processes do together in a `with` statement; without torchrun there is only one.

    Whatever fails in one process ends the others as well. It is reported by one of them; the others
    exit silently.

    Args:
        options: of the run: `device` and `process_timeout`.

    Yields:
        The processes.

    Raises:
        UserError: the processes do not find each other; or a process has raised it, then the
            message begins with its rank.
        ProcessLost: another one has ended without a word.
    """
    n = n_processes()
    if n == 1:
        yield Processes()
        return
    rank = int(os.environ.get("RANK", 0))
    with _said_once(rank):
        device, seconds = _checked(options)
    if rank:  # warnings are the same in all of them
        logging.getLogger("unisal").setLevel(logging.ERROR)
    with _said_once(rank):
        notes = _joined(device, seconds)
    with notes, _one_message(notes):
        yield Processes.current()
    dist.destroy_process_group()


def progress_of(processes: Processes) -> Progress:
    """Return what shows the progress of work that all processes do together."""
    return TERMINAL if processes.is_first else SILENT


def _checked(options: Mapping[str, Any]) -> tuple[str, float]:
    """Return the kind of device and the timeout in seconds.

    Raises:
        UserError: one of them is wrong, or a variable of the environment is missing.
    """
    if missing := [name for name in NEEDED if name not in os.environ]:
        raise UserError(
            f"WORLD_SIZE is {n_processes()}, but {', '.join(missing)} is not set; start the "
            "processes with torchrun, or unset WORLD_SIZE"
        )
    seconds = options.get("process_timeout", TrainerConfig.process_timeout)
    check_number(seconds, "process_timeout", above=True)
    return find_device(str(options.get("device", TrainerConfig.device))), float(seconds)


def _joined(device: str, seconds: float) -> Notes:
    """Find the other processes.

    Returns:
        What they tell each other.

    Raises:
        UserError: they were not found.
    """
    timeout = timedelta(seconds=seconds)
    host, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    attempt = f"unisal/{os.environ.get(RESTARTS, '0')}"
    try:
        store, rank, n = next(rendezvous("env://", timeout=timeout))
        if device != "cpu":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        dist.init_process_group(
            "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
            store=PrefixStore(attempt, store),
            rank=rank,
            world_size=n,
            timeout=timeout,
        )
        # A connection of its own: the other one may be busy when it is needed most.
        own = TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=NOTE_SECONDS))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the other {n_processes() - 1} processes were not found at {host}:{port} within "
            f"{seconds:g} s: {str(error).splitlines()[0]}"
        ) from error
    return Notes(PrefixStore(f"{attempt}/notes", own), rank, n)


class Notes:
    """Notes that processes leave for each other, also when they cannot compute together any more.

    In a `with` statement a thread counts on, to show that the process is alive. Where notes cannot
    be read, the process behaves as if it were the only one that is left.

    Args:
        store: where they are kept.
        rank: the rank of this process.
        n: how many processes there are.
    """

    def __init__(self, store: Store, rank: int, n: int) -> None:
        self.rank, self.n = rank, n
        self._store = store
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Notes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        with suppress(RuntimeError):
            while not self._ended.wait(BEAT_SECONDS):
                self._store.add(f"beat {self.rank}", 1)

    def is_mine_to_tell(self) -> bool:
        """Return True in the first process that asks, which is to report what went wrong."""
        try:
            return self._store.add("told", 1) == 1
        except RuntimeError:
            return True

    def say_leaving(self) -> None:
        """Note that this process ends because another one has."""
        with suppress(RuntimeError):
            self._store.add(f"leaving {self.rank}", 1)

    def silent(self) -> list[int]:
        """Return the ranks of the processes that neither count on nor have said that they leave."""
        others = [rank for rank in range(self.n) if rank != self.rank]
        try:
            before = {rank: self._store.add(f"beat {rank}", 0) for rank in others}
            time.sleep(GRACE_SECONDS)
            return [
                rank
                for rank in others
                if self._store.add(f"beat {rank}", 0) == before[rank]
                and not self._store.add(f"leaving {rank}", 0)
            ]
        except RuntimeError:
            return []


@contextmanager
def _said_once(rank: int) -> Iterator[None]:
    """Let a mistake that all processes make be reported by the first one alone."""
    try:
        yield
    except UserError:
        if rank:
            raise SystemExit(EXIT_MISTAKE) from None
        raise


@contextmanager
def _one_message(notes: Notes) -> Iterator[None]:
    """Let one process report what went wrong first, with its rank, and the others exit silently."""
    try:
        yield
    except ProcessLost:
        with DeferredInterrupt():  # torchrun ends the others as soon as one has failed
            notes.say_leaving()
            if not notes.is_mine_to_tell():
                raise SystemExit(EXIT_SOME_FAILED) from None
            raise ProcessLost(_lost(notes.silent(), notes.n)) from None
    except (UserError, SomeFailed) as error:
        if notes.is_mine_to_tell():
            raise type(error)(f"rank {notes.rank} of {notes.n}: {error}") from error
        code = EXIT_MISTAKE if isinstance(error, UserError) else EXIT_SOME_FAILED
        raise SystemExit(code) from None
    except KeyboardInterrupt as error:
        with DeferredInterrupt():
            notes.say_leaving()
            if not notes.is_mine_to_tell():
                raise SystemExit(EXIT_INTERRUPTED) from None
            # torchrun's signal may come before it is noticed here that a process is lost.
            lost = notes.silent() if isinstance(error, Terminated) else []
            if lost:
                raise ProcessLost(_lost(lost, notes.n)) from None
        raise
    except Exception:
        if notes.is_mine_to_tell():
            raise
        raise SystemExit(EXIT_SOME_FAILED) from None


def _lost(ranks: list[int], n: int) -> str:
    """Say which processes have ended, and how to go on."""
    who = f"rank {', '.join(map(str, ranks))} of {n}" if ranks else f"one of {n} processes"
    return (
        f"{who} has ended without a word or does not answer (killed, out of memory, a machine "
        "lost?), so the others end too; what was saved is whole: go on with --resume"
    )
