"""Compare many processes with the threads of one on this machine, and measure what they share.

Run `python -m benchmarks.processes`, which needs `pip install "unisal[cluster]"`; nothing else
should run at the same time. Pictures and videos are predicted by one process with all its threads
and by a worker for each core. A short and a long run of either give what starting costs and what
each picture or video costs after that. On Linux the memory of the workers is measured too, and how
much of it they share.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image

from benchmarks.case import PROJECT
from benchmarks.scaling import RATE, write_video
from benchmarks.stream_latency import make_frames
from unisal.inference.prepared import WEIGHTS

PICTURE, FILM = (600, 800), (360, 640)
SAMPLE_SECONDS = 0.1
ACTOR = "ray::_Worker"
"""What Ray calls the process of a worker."""


class Lengths(NamedTuple):
    """How many there are in a short run, and in a long one."""

    pictures: tuple[int, int] = (80, 480)
    films: tuple[int, int] = (2, 10)
    film_frames: int = 4 * RATE
    rounds: int = 3


class Memory(NamedTuple):
    """Of the workers at a moment, in MB."""

    workers: int
    resident: float
    """As each of them sees it, shared pages counted for each."""
    proportional: float
    """Shared pages counted once."""
    weights: float
    """Of the proportional memory, that of the mapped weights."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try the program, not the machine")
    parser.add_argument("--workers", type=int, default=None, help="by default one for each core")
    given = parser.parse_args(arguments)
    lengths = Lengths((1, 3), (1, 2), 3, 1) if given.quick else Lengths()
    workers = given.workers or len(os.sched_getaffinity(0))
    memory: list[Memory] = []
    with TemporaryDirectory() as name:
        kinds = {
            "predictions_from_folder": pictures(Path(name), lengths.pictures),
            "predict_video": films(Path(name), lengths.films, lengths.film_frames),
        }
        print(f"{workers} workers, {len(os.sched_getaffinity(0))} cores\n")
        print("| command | one process starts | each | workers start | each | ratio | even at |")
        print("|---|---|---|---|---|---|---|")
        for command, folders in kinds.items():
            compare_ways(command, folders, workers, lengths.rounds, memory)
    show_memory(memory)


def pictures(folder: Path, numbers: tuple[int, int]) -> dict[int, Path]:
    """Make folders with so many pictures, by their number."""
    frames = [Image.fromarray(frame) for frame in make_frames(PICTURE, 16)]
    made = {}
    for n in numbers:
        made[n] = folder / f"pictures_{n}"
        made[n].mkdir()
        for i in range(n):
            frames[i % len(frames)].save(made[n] / f"{i:05}.jpg", quality=90)
    return made


def films(folder: Path, numbers: tuple[int, int], n_frames: int) -> dict[int, Path]:
    """Make folders with so many videos, by their number."""
    film, made = write_video(folder / "film.mp4", FILM, n_frames), {}
    for n in numbers:
        made[n] = folder / f"films_{n}"
        made[n].mkdir()
        for i in range(n):
            os.link(film, made[n] / f"{i:03}.mp4")
    return made


def compare_ways(
    command: str, folders: dict[int, Path], workers: int, rounds: int, memory: list[Memory]
) -> None:
    """Print a row: what one process and the workers take; they take turns."""
    ways: dict[str, tuple[str, ...]] = {"one": (), "workers": (f"--workers={workers}",)}
    for words in ways.values():  # makes the graphs that the others find
        run(command, min(folders.items())[1], words)
    turns: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for n, folder in folders.items():
            for way, words in ways.items():
                took = run(command, folder, words, memory if way == "workers" else None)
                turns.setdefault((way, n), []).append(took)
    few, many = sorted(folders)
    costs = {}
    for way in ways:
        short, long = (statistics.median(turns[way, n]) for n in (few, many))
        each = (long - short) / (many - few)
        costs[way] = short - few * each, each
    (start, each), (start_workers, each_worker) = costs["one"], costs["workers"]
    saved = each - each_worker
    even = f"{(start_workers - start) / saved:.0f}" if saved > 0 else "never"
    print(
        f"| `{command}` | {start:.1f} s | {1000 * each:.1f} ms | {start_workers:.1f} s "
        f"| {1000 * each_worker:.1f} ms | {each / each_worker:.2f} | {even} |",
        flush=True,
    )


def run(
    command: str, folder: Path, words: Sequence[str], memory: list[Memory] | None = None
) -> float:
    """Return how many seconds a command takes; sample the memory of its workers meanwhile."""
    given = [sys.executable, "run.py", command, str(folder), "--device=cpu", "--overwrite=True"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*given, *words], cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while memory is not None and process.poll() is None:
        memory.extend(sample())
        time.sleep(SAMPLE_SECONDS)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join([*given, *words])}:\n{said}")
    return time.perf_counter() - begun


def sample() -> Iterator[Memory]:
    """Return the memory of the workers that have mapped the weights, if there are several."""
    found = [of_process(pid) for pid in Path("/proc").glob("[0-9]*") if is_worker(pid)]
    ready = [sizes for sizes in found if sizes["weights"] > 0]
    if len(ready) > 1:
        totals = {key: sum(sizes[key] for sizes in ready) for key in ready[0]}
        yield Memory(len(ready), totals["Rss"], totals["Pss"], totals["weights"])


def is_worker(pid: Path) -> bool:
    """Return whether a process is one of Ray's workers that predicts."""
    try:
        return (pid / "cmdline").read_text().startswith(ACTOR)
    except OSError:
        return False


def of_process(pid: Path) -> dict[str, float]:
    """Return the memory of a process in MB, and its share of the mapped weights."""
    sizes, mapped = {"Rss": 0.0, "Pss": 0.0, "weights": 0.0}, False
    try:
        lines = (pid / "smaps").read_text().splitlines()
    except OSError:  # it has ended
        return sizes
    for line in lines:
        key, _, rest = line.partition(":")
        if " " in key:  # the first line of a mapping, which ends with the file's name
            mapped = line.endswith(f"/{WEIGHTS}")
        elif key in ("Rss", "Pss"):
            size = int(rest.split()[0]) / 1024
            sizes[key] += size
            sizes["weights"] += size * (mapped and key == "Pss")
    return sizes


def show_memory(memory: Sequence[Memory]) -> None:
    """Print the memory of the moment at which the workers needed the most."""
    if not memory:
        return
    most = max(memory, key=lambda moment: moment.proportional)
    each = most.workers
    print(
        f"\n{each} workers at most: {most.resident / each:.0f} MB each as the system shows it, "
        f"{most.proportional / each:.0f} MB with shared pages counted once; mapped weights take "
        f"{most.weights:.1f} MB of all."
    )


if __name__ == "__main__":
    main()
