"""The processes that train one network together, and how they wait for each other.

Which they are is what `torch.distributed` says: a run that is begun after
`torch.distributed.init_process_group` is one of all its processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from unisal.data.base import Batch
from unisal.device import pick_device
from unisal.errors import ProcessLost, UserError

X = TypeVar("X")
BACKENDS = ("gloo", "nccl")
"""What stands in the messages of errors of a process that waits in vain for another one."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    All of them have to call the methods that exchange something, in the same order.
    """

    rank: int = 0
    """The number of this one, from 0."""
    n: int = 1
    """How many there are."""
    local_rank: int = 0
    """The number of this one on its machine, from 0."""
    n_local: int = 1
    """How many there are on its machine."""

    @classmethod
    def current(cls) -> Processes:
        """Return the processes of `torch.distributed`; only this one if it was not begun."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return cls()
        rank, n = dist.get_rank(), dist.get_world_size()
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        return cls(rank, n, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", n)))

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes the files."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Return the device with a name; of several processes each has a GPU of its own.

        Args:
            name: see `unisal.device.pick_device`.

        Raises:
            UserError: there is no such device, or there are not enough GPUs.
        """
        device = pick_device(name)
        if self.n == 1 or device.type == "cpu":
            return device
        if device.index is not None:
            raise UserError(
                f"device is {name!r}, but {self.n} processes cannot share one GPU; give cuda, and "
                "each of them takes its own"
            )
        if self.n_local > torch.cuda.device_count():
            raise UserError(
                f"{self.n_local} processes on a machine with {torch.cuda.device_count()} GPUs; "
                "start as many as there are GPUs, or train with --device=cpu"
            )
        return torch.device(device.type, self.local_rank)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Tell errors of waiting for other processes from all others in a `with` statement.

        Raises:
            ProcessLost: another process has ended or does not answer.
        """
        try:
            yield
        except RuntimeError as error:
            words = str(error).lower()
            if self.n == 1 or not any(backend in words for backend in BACKENDS):
                raise
            raise ProcessLost(
                "another process of the run has ended, or did not answer in time"
            ) from error

    def gathered(self, value: X) -> list[X]:
        """Return what each process gives, in the order of their ranks.

        Raises:
            ProcessLost: see `waiting`.
        """
        if self.n == 1:
            return [value]
        values: list[Any] = [None] * self.n
        with self.waiting():
            dist.all_gather_object(values, value)
        return values

    def add(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes, the same to the last bit in all of them.

        Raises:
            ProcessLost: see `waiting`.
        """
        if self.n == 1:
            return values
        total = values.clone()
        with self.waiting():
            dist.all_reduce(total)
        return total

    def dealt(self, n: int) -> range:
        """Return which of `n` things, dealt one by one, this process gets."""
        return range(self.rank, n, self.n)

    def whole(self, batch: Batch) -> Batch:
        """Return the batch of all processes, of which each has a part.

        Raises:
            ProcessLost: see `waiting`.
        """
        part = batch.part
        if part is None:
            return batch
        largest = -(-part.total // self.n)

        def joined(own: Tensor) -> Tensor:
            kind = torch.uint8 if own.dtype == torch.bool else own.dtype
            padded = own.new_zeros((largest, *own.shape[1:]), dtype=kind)
            padded[: part.n] = own[: part.n]
            found = [torch.empty_like(padded) for _ in range(self.n)]
            with self.waiting():
                dist.all_gather(found, padded)
            each, left = divmod(part.total, self.n)
            rows = [block[: each + (rank < left)] for rank, block in enumerate(found)]
            return torch.cat(rows).to(own.dtype)

        return replace(
            batch,
            part=None,
            frames=joined(batch.frames),
            maps=joined(batch.maps),
            fixations=joined(batch.fixations),
        )


ALONE = Processes()
"""The only process of a run."""


def own_part(whole: Batch, of: Batch) -> Batch:
    """Return the part of a whole batch that a process has: the examples of its batch `of`."""
    if of.part is None:
        return whole
    rows = slice(of.part.first, of.part.first + max(of.part.n, 1))
    return replace(
        of, frames=whole.frames[rows], maps=whole.maps[rows], fixations=whole.fixations[rows]
    )


def shared_states(states: dict[str, Any], processes: Processes) -> dict[str, Any]:
    """Return the random states of a checkpoint for one of several processes.

    All draw the same. A checkpoint is that of the process with the first GPU, so the state of that
    GPU becomes that of all.
    """
    if processes.n == 1 or not states["cuda"]:
        return states
    return {**states, "cuda": [states["cuda"][0]] * torch.cuda.device_count()}


def differing(facts: Sequence[dict[str, Any]]) -> str | None:
    """Say in what the processes differ, which have to agree in all of it; None: in nothing.

    Args:
        facts: what is known of each process, by what is to be said of it.
    """
    for rank, other in enumerate(facts):
        for name, value in facts[0].items():
            if other[name] != value:
                return f"{name}: {value} in rank 0 and {other[name]} in rank {rank}"
    return None
