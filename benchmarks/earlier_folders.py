"""Measure the command on a folder of frames beside that of an earlier commit.

Run `python -m benchmarks.earlier_folders` in a checkout with its history. The earlier commit is by
default the last one that could not predict without PyTorch; it is checked out in a temporary
worktree of Git. Both predict the same frames with the weights of the earlier one, each time in a
process of its own and taking turns, and a longer folder as well, which must not take more memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.case import PROJECT
from benchmarks.stream_latency import write_frames

FIRST_WITHOUT_TORCH = "unisal/inference/cache.py"
"""The file that the first commit added which could predict without PyTorch."""
WANTED = "1.3 times, below 300 MB and flat"
MEASURE = """
import resource, subprocess, sys, time
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
took = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
print(took, used.ru_utime + used.ru_stime, peak)
sys.exit(done.stderr if done.returncode else 0)
"""
"""Prints the seconds, those of the processor and the peak memory in MB of a command. A process
begins with the peak of the one that starts it, so that it takes a small one."""


class Measured(NamedTuple):
    """What a command took."""

    seconds: float
    processor: float
    """Seconds of all cores together. Other programs on the machine hardly change them."""
    megabytes: float


def git(*arguments: str) -> str:
    """Run Git in the project and return what it prints."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def earlier_commit() -> str:
    """Return the last commit that could not predict without PyTorch."""
    added = git("log", "--diff-filter=A", "--format=%H", "--", FIRST_WITHOUT_TORCH)
    return git("rev-parse", "--short", f"{added.splitlines()[-1]}^")


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a new folder, which is removed at the end of the `with` statement."""
    git("worktree", "add", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def predict(tree: Path, frames: Path, out: Path, **env: str) -> Measured:
    """Predict a folder of frames as one video by the program in `tree`."""
    command = [sys.executable, "-m", "unisal", "predictions_from_folder", str(frames)]
    command += ["--is_video=True", "--overwrite=True", "--device=cpu", f"--out_dir={out}"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return Measured(*map(float, done.stdout.split()))


def difference(folder: Path, other: Path) -> str:
    """Say how much the maps in two folders differ."""
    highest, shares = 0, []
    for path in sorted((folder / "saliency").iterdir()):
        one, two = (np.asarray(Image.open(f / "saliency" / path.name)) for f in (folder, other))
        apart = np.abs(one.astype(int) - two)
        highest = max(highest, int(apart.max()))
        shares.append(float((apart > 0).mean()))
    return f"at most {highest} grey levels, {np.mean(shares):.4%} of the pixels differ"


def measure(commit: str, size: tuple[int, int], counts: tuple[int, int], rounds: int) -> str:
    """Compare the two programs.

    Args:
        commit: the earlier one.
        size: (height, width) of the frames.
        counts: the frames of the folder that is timed, and of the longer one.
        rounds: how often each is timed, after a run that is not.

    Returns:
        A table in Markdown.
    """
    with TemporaryDirectory() as name, checked_out(commit, Path(name, "earlier")) as tree:
        folder, (few, many) = Path(name), counts
        env = {"TRAIN_DIR": str(tree / "training_runs"), "UNISAL_CACHE_DIR": str(folder / "cache")}
        for count in counts:
            write_frames(folder / str(count) / "images", size, count)
        sides = {commit: tree, "this commit": PROJECT}
        outs = {side: folder / f"out_{number}" for number, side in enumerate(sides)}
        timed: dict[str, list[Measured]] = {side: [] for side in sides}
        for _ in range(1 + rounds):  # the first one makes the graph
            for side, tree_of in sides.items():
                timed[side].append(predict(tree_of, folder / str(few), outs[side], **env))
        apart = difference(*outs.values())
        long = {
            side: predict(tree_of, folder / str(many), folder / "long", **env)
            for side, tree_of in sides.items()
        }
    kept = {side: runs[1:] for side, runs in timed.items()}
    pairs = list(zip(*kept.values(), strict=True))
    ratio = statistics.median(old.seconds / new.seconds for old, new in pairs)
    of_processor = statistics.median(old.processor / new.processor for old, new in pairs)
    wide = "x".join(map(str, size[::-1]))
    lines = [
        f"| folder of {few} frames {wide}, the command | time | ratio | processor | ratio | "
        f"peak memory | with {many} frames | per further frame |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for side, runs in kept.items():
        seconds = statistics.median(run.seconds for run in runs)
        processor = statistics.median(run.processor for run in runs)
        peak = max(run.megabytes for run in runs)
        further = 1000 * (long[side].seconds - seconds) / (many - few)
        ratios = ("1", "1") if side == commit else (f"{ratio:.2f}", f"{of_processor:.2f}")
        lines.append(
            f"| {side} | {seconds:.2f} s | {ratios[0]} | {processor:.2f} s | {ratios[1]} | "
            f"{peak:.0f} MB | {long[side].megabytes:.0f} MB | {further:.1f} ms |"
        )
    return "\n".join([*lines, "", f"Wanted: {WANTED}. Maps: {apart}."])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default=None, help="the earlier commit")
    parser.add_argument("--size", default="720x1280", help="height and width of the frames")
    parser.add_argument("--frames", default="100,300", help="of the timed folder and the longer")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    options = parser.parse_args(arguments)
    height, width = map(int, options.size.split("x"))
    few, many = map(int, options.frames.split(","))
    commit = options.commit or earlier_commit()
    print(measure(commit, (height, width), (few, many), options.rounds))


if __name__ == "__main__":
    main()
