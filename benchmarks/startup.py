"""Measure how long the program takes to start; run `python -m benchmarks.startup`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.case import PROJECT

COMMANDS = {
    "`python run.py --help`": [sys.executable, "run.py", "--help"],
    "`import unisal`": [sys.executable, "-c", "import unisal"],
}
WANTED = "under 0.5 s, without torch"


def seconds(command: list[str], rounds: int = 9) -> float:
    """Return the median time in seconds that a command takes as a process of its own."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def loads_torch(command: list[str]) -> bool:
    """Return whether the command imports torch."""
    traced = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(traced, cwd=PROJECT, capture_output=True, text=True, check=True)
    return any(line.endswith("| torch") for line in done.stderr.splitlines())


def main(rounds: int = 9) -> None:
    """Measure every command and print the times."""
    for what, command in COMMANDS.items():
        torch = "with torch" if loads_torch(command) else "without torch"
        print(f"{what}: {seconds(command, rounds):.2f} s, {torch} (wanted: {WANTED})")


if __name__ == "__main__":
    main()
