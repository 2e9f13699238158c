"""A row of the table in docs/performance.md: a plain computation compared with ours.

`python -m benchmarks.case benchmarks.network OneImage ours` runs one side once and prints its peak
memory; each side gets a process of its own for that.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.limits import Machine
from benchmarks.timing import compare

PROJECT = Path(__file__).resolve().parent.parent
TURN_SECONDS = 0.3
"""How long a side is timed at a stretch, for one call at least. The first call still suffers from
what the other side left behind: waiting threads, and caches full of other memory."""
HEADER = ("what", "wanted", "ratio", "plain", "ours", "difference", "peak memory", "of the limit")


class Case:
    """A plain computation of something, and ours.

    Attributes:
        what: first column of the row.
        wanted: second column, the ratio that we aim for.
        items: how many items a call computes; times are given per item.
        unit: what the items are, in the singular.
        rounds: how often each side is timed.
    """

    what: str
    wanted: str
    items: int = 1
    unit: str = "frame"
    rounds: int = 5

    def plain(self) -> Any:
        """Compute it plainly and return the result."""
        raise NotImplementedError

    def ours(self) -> Any:
        """Compute it our way and return the result."""
        raise NotImplementedError

    def difference(self, plain: Any, ours: Any) -> str:
        """Say in words how much the two results differ."""
        raise NotImplementedError

    def of_the_limit(self, machine: Machine, seconds: float) -> str:
        """Say how close our time per call comes to what the machine can do."""
        return ""

    def options(self) -> dict[str, Any]:
        """Return the arguments that recreate the case."""
        return {}

    def peak_memory(self) -> str:
        """Report the peak memory of each side."""
        return f"{peak_of(self, 'plain'):.0f} MB plain, {peak_of(self, 'ours'):.0f} MB ours"

    def close(self) -> None:
        """Remove the files that were made for the case."""


class Row(NamedTuple):
    """A line of the table; times in seconds per item."""

    case: Case
    ratio: float
    plain: float
    ours: float
    difference: str
    peak_memory: str
    of_the_limit: str

    def cells(self) -> tuple[str, ...]:
        unit = f"ms/{self.case.unit}"
        return (
            self.case.what,
            self.case.wanted,
            f"{self.ratio:.1f} times",
            f"{1000 * self.plain:.1f} {unit}",
            f"{1000 * self.ours:.1f} {unit}",
            self.difference,
            self.peak_memory,
            self.of_the_limit,
        )


def measure(
    case: Case,
    machine: Machine,
    rounds: int | None = None,
    memory: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Run a case: times in alternation in this process, memory in one process per side.

    Args:
        case: what to run.
        machine: the limits that the times are compared with.
        rounds: how often each side is timed; by default what the case says.
        memory: whether to measure peak memory.
        clock: returns the time in seconds.
    """
    difference = case.difference(case.plain(), case.ours())
    times = compare(case.plain, case.ours, rounds or case.rounds, TURN_SECONDS, clock)
    peak = case.peak_memory() if memory else ""
    limit = case.of_the_limit(machine, times.ours)
    plain, ours = times.plain / case.items, times.ours / case.items
    return Row(case, times.ratio, plain, ours, difference, peak, limit)


def peak_of(case: Case, side: str, **options: Any) -> float:
    """Return the peak memory in MB of a process that runs one side once."""
    kind = type(case)
    spec = sys.modules[kind.__module__].__spec__
    module = spec.name if spec else kind.__module__  # of a module that runs, not "__main__"
    command = [sys.executable, "-m", "benchmarks.case", module, kind.__name__, side]
    done = subprocess.run(
        [*command, json.dumps({**case.options(), **options})],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def print_rows(rows: Sequence[Row]) -> None:
    """Print rows as a table in Markdown."""
    for cells in (HEADER, ["---"] * len(HEADER), *(row.cells() for row in rows)):
        print(f"| {' | '.join(cells)} |")


def own_peak() -> float:
    """Return the peak memory of this process in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux `resource` includes the process before `exec`
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / (1 << 10)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there


def main(module: str, kind: str, side: str, options: str = "{}") -> None:
    """Run one side once and print the peak memory of the process in MB."""
    case: Case = getattr(importlib.import_module(module), kind)(**json.loads(options))
    try:
        getattr(case, side)()
    finally:
        case.close()
    print(own_peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
