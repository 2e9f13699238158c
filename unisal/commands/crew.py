"""What commands that work on many workers share: where the network runs there, what failed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from unisal.cluster.workers import Crew
from unisal.errors import UserError, cause
from unisal.files import natural_order

PER_TASK = 8
"""Pictures that a worker predicts before it reports: few enough that all end at about one time."""

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
