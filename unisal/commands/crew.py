"""What commands that work on many workers share: where the network runs there, what failed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from unisal.cluster.workers import Crew
from unisal.errors import UserError, cause
from unisal.files import natural_order

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


def say_failures(failed: Sequence[tuple[Path, Exception]]) -> None:
    """Log a table of what failed and why, in natural order; nothing if nothing did."""
    if not failed:
        return
    rows = [(str(p), cause(e)) for p, e in sorted(failed, key=lambda row: natural_order(row[0]))]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"  {name:<{width}}  {reason.removeprefix(name).lstrip(': ')}" for name, reason in rows
    ]
    log.error("%d failed:\n%s", len(rows), "\n".join(lines))
