"""Measure how long the program takes to start, and to its first map.

Run `python -m benchmarks.startup`. The first map is that of one picture, with the shipped weights,
in a process of its own: by a command and from Python, with PyTorch and with a graph that was made
before. Nothing else should run at the same time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from benchmarks.case import PROJECT
from benchmarks.stream_latency import make_frames

COMMANDS = {
    "`python run.py --help`": [sys.executable, "run.py", "--help"],
    "`import unisal`": [sys.executable, "-c", "import unisal"],
}
WANTED = "under 0.5 s, without torch"
FIRST_MAP = """
import sys
import numpy as np
from PIL import Image
import unisal
unisal.load(device="cpu", runtime=sys.argv[1]).image(np.asarray(Image.open(sys.argv[2])))
"""
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
"""
"""Prints the peak memory of a command in MB. A process begins with the peak of the one that starts
it, so that has to be a small one."""
WANTED_FIRST_MAP = "a third of the time, below 200 MB"


def seconds(command: list[str], rounds: int = 9, **env: str) -> float:
    """Return the median time in seconds that a command takes as a process of its own."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        _run(command, env)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def peak_megabytes(command: list[str], **env: str) -> float:
    """Return the peak memory of a command as a process of its own."""
    return float(_run([sys.executable, "-c", PEAK, *command], env).stdout)


def loads_torch(command: list[str], **env: str) -> bool:
    """Return whether the command imports torch."""
    done = _run([command[0], "-X", "importtime", *command[1:]], env)
    # What another module imports is indented.
    return any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


def _run(command: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )


def first_maps(folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Return, by what it is, a command that uses PyTorch and one that does not.

    Args:
        folder: an empty folder, for the picture.
    """
    picture = folder / "picture.png"
    Image.fromarray(next(make_frames((480, 640), 1))).save(picture)
    in_python = [sys.executable, "-c", FIRST_MAP]
    # The command as it is where no graph can be kept, so that PyTorch makes it each time.
    command = [
        *(sys.executable, "run.py", "predictions_from_folder", str(picture)),
        *("--device=cpu", "--overwrite=True"),
    ]
    return {
        "first map from Python": (
            [*in_python, "torch", str(picture)],
            [*in_python, "onnx", str(picture)],
        ),
        "`predictions_from_folder`, one picture": (command, command),
    }


def measure_first_maps(rounds: int) -> None:
    """Measure the first map of a process, and print times and memory."""
    with TemporaryDirectory() as folder:
        graphs, nothing = Path(folder, "graphs"), Path(folder, "no folder")
        nothing.touch()  # a file, in which no graph can be kept
        for what, (with_torch, without) in first_maps(Path(folder)).items():
            slow, fast = {"UNISAL_CACHE_DIR": str(nothing)}, {"UNISAL_CACHE_DIR": str(graphs)}
            _run(without, fast)  # makes the graph
            assert loads_torch(with_torch, **slow) and not loads_torch(without, **fast)
            plain, ours = seconds(with_torch, rounds, **slow), seconds(without, rounds, **fast)
            memory = peak_megabytes(with_torch, **slow), peak_megabytes(without, **fast)
            print(
                f"{what}: {ours:.2f} s and {memory[1]:.0f} MB; with PyTorch {plain:.2f} s and "
                f"{memory[0]:.0f} MB; ratio {plain / ours:.1f} (wanted: {WANTED_FIRST_MAP})"
            )


def measure_starts(rounds: int) -> None:
    """Measure every command and print the times."""
    for what, command in COMMANDS.items():
        torch = "with torch" if loads_torch(command) else "without torch"
        print(f"{what}: {seconds(command, rounds):.2f} s, {torch} (wanted: {WANTED})")


def main(rounds: int = 9) -> None:
    """Measure the first maps and the starts.

    Args:
        rounds: how often each is measured; a third of it for what takes long.
    """
    measure_first_maps(max(1, rounds // 3))
    measure_starts(rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each start is measured")
    main(parser.parse_args().rounds)
