"""Measure what prediction on many workers costs, check the model of it, and ask it for a large run.

`python -m benchmarks.scaling` prints the tables of docs/scaling.md. It makes small videos of the
example's frames, predicts them with `predict_video --files=LIST --workers=N` (which needs
`pip install "unisal[cluster]"`), and takes about five minutes. Nothing else should run at the same
time. `--quick` makes them so short that only the program is tried, not the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av

from benchmarks.case import PROJECT
from benchmarks.run_model import Cluster, Costs, Work, simulate
from benchmarks.stream_latency import make_frames
from unisal.commands.listed import AT_A_TIME
from unisal.data.file_list import check_once, count_entries
from unisal.data.video_file import VideoFile
from unisal.predict.inputs import prepare
from unisal.predict.presets import VIDEO_PRESET, find_preset

SIZES = (360, 640), (720, 1280), (1080, 1920)
RATE = 30
WORKERS = 1, 2, 4
OUTPUTS = {
    "overlay (MP4)": ("--overlay=True",),
    "maps (PNG)": ("--overlay=False", "--maps=png"),
    "densities (HDF5)": ("--overlay=False", "--maps=h5"),
}
MILLION = 1_000_000
A_MINUTE = 60 * RATE

CONNECT = """
from unisal.cluster.workers import Crew, connected
with connected(Crew(1)):
    pass
"""

CORES, BANDWIDTH = 32, 2e9
"""Assumed: cores of a machine, each for a worker; bytes per second of the shared storage."""
LOSSES, SLOW_SHARE, SLOWDOWN = 0.01, 0.05, 1.5
"""Assumed: losses of each worker per hour, share of the slow ones, and how slow they are."""
MACHINES = 1, 10, 30, 100
GPU_RATES = 200, 1000
"""Assumed, since none was measured: frames per second that a GPU predicts."""
GPU_CORES = 16
"""Assumed: cores that decode for a GPU."""


class Lengths(NamedTuple):
    """How many frames the videos have, and how many videos there are."""

    short: int = 10
    long: int = 120
    several: int = 10
    checked: int = 40
    rounds: int = 2


class FrameCost(NamedTuple):
    """Of one frame, in seconds, and bytes of the video file."""

    worker: float
    processor: float
    """Of all cores."""
    decoding: float
    read: float


def write_video(path: Path, size: tuple[int, int], n: int) -> Path:
    """Write frames of the example as an H.264 video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for rgb in make_frames(size, n):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_list(path: Path, video: Path, n: int) -> Path:
    """List a video under `n` names, in a folder beside the list."""
    folder = path.with_suffix("")
    folder.mkdir()
    names = [f"{folder.name}/{i:03}.mp4" for i in range(n)]
    for name in names:
        os.link(video, path.parent / name)
    path.write_text("\n".join(names))
    return path


class Took(NamedTuple):
    """Of a command, in seconds."""

    wall: float
    processor: float
    """Of all cores together, whatever else the machine did meanwhile."""


def seconds(files: Path, workers: int, words: Sequence[str] = OUTPUTS["overlay (MP4)"]) -> Took:
    """Return how long the command takes as a process of its own."""
    command = [sys.executable, "run.py", "predict_video", f"--files={files}"]
    options = [f"--workers={workers}", "--device=cpu", "--overwrite=True", *words]
    begun, busy = time.perf_counter(), processor_seconds()
    done = subprocess.run(
        [*command, *options], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join([*command, *options])}:\n{done.stderr}")
    return Took(time.perf_counter() - begun, processor_seconds() - busy)


def processor_seconds() -> float:
    """Return how long the cores of this Linux machine have worked.

    The system's accounts of a process and its children leave out Ray's workers.
    """
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure_decoding(path: Path) -> tuple[float, float]:
    """Return the seconds of a core to open a video, and to decode and resize a frame."""
    preset = find_preset(VIDEO_PRESET)
    opened = []
    for _ in range(5):
        begun = time.perf_counter()
        VideoFile(path).close()
        opened.append(time.perf_counter() - begun)
    begun, n = time.process_time(), 0
    with VideoFile(path) as video:
        for frame in video:
            prepare(frame.rgb, preset.input_size_for(video.size))
            n += 1
    return statistics.median(opened), (time.process_time() - begun) / n


def medians(some: Sequence[Took]) -> Took:
    """Return the median of each time."""
    return Took(*(statistics.median(each) for each in zip(*some, strict=True)))


def measure_ray(rounds: int) -> float:
    """Return the seconds until Ray has started on this machine, and ended."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", CONNECT], cwd=PROJECT, check=True)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def measure_costs(folder: Path, lengths: Lengths) -> tuple[Costs, dict[tuple[int, int], FrameCost]]:
    """Measure with one worker; the costs are those of the smallest videos."""
    frames, opening, ray = {}, 0.0, measure_ray(lengths.rounds)
    first = write_video(folder / "first.mp4", SIZES[0], lengths.short)
    seconds(write_list(folder / "first.txt", first, 1), 1)  # makes the graph that others find
    start = video_cost = 0.0
    for size in SIZES:
        name = f"{size[1]}x{size[0]}"
        short = write_video(folder / f"short_{name}.mp4", size, lengths.short)
        long = write_video(folder / f"long_{name}.mp4", size, lengths.long)
        lists = [
            write_list(folder / f"{kind}_{name}.txt", video, 1)
            for kind, video in (("one", short), ("long", long))
        ]
        turns = [[seconds(files, 1) for files in lists] for _ in range(lengths.rounds)]
        n_more = lengths.long - lengths.short
        one, _ = medians([short_run for short_run, _ in turns])
        frame, processor = (
            (b - a) / n_more
            for a, b in zip(*(medians(each) for each in zip(*turns, strict=True)), strict=True)
        )
        opened, decoding = measure_decoding(long)
        frames[size] = FrameCost(frame, processor, decoding, long.stat().st_size / lengths.long)
        if size == SIZES[0]:
            opening = opened
            several = seconds(write_list(folder / "several.txt", short, lengths.several), 1)
            video_cost = (several.wall - one) / (lengths.several - 1) - lengths.short * frame
            start = one - video_cost - lengths.short * frame
    costs = Costs(
        frame=frames[SIZES[0]].worker,
        video=video_cost - opening,  # one worker waits while the next video is looked into
        worker=start - ray,
        run=ray,
        probe=opening,
        cores=max(1.0, frames[SIZES[0]].processor / frames[SIZES[0]].worker),
    )
    if min(*(cost.worker for cost in frames.values()), costs.video, costs.worker) <= 0:
        print("NO RESULT: a cost is negative. Something else runs, or the videos are too short.\n")
        costs = replace(
            costs, frame=abs(costs.frame), video=abs(costs.video), worker=abs(costs.worker)
        )
    return costs, frames


def measure_outputs(folder: Path, lengths: Lengths) -> dict[str, float]:
    """Return the bytes that are written for a frame of the smallest videos."""
    found = {}
    short = folder / f"short_{SIZES[0][1]}x{SIZES[0][0]}.mp4"
    for i, (name, words) in enumerate(OUTPUTS.items()):
        files = write_list(folder / f"output_{i}.txt", short, 1)
        seconds(files, 1, words)
        written = (p for p in (folder / f"output_{i}" / "saliency").rglob("*") if p.is_file())
        found[name] = sum(p.stat().st_size for p in written) / lengths.short
    return found


def print_costs(
    costs: Costs, frames: dict[tuple[int, int], FrameCost], outputs: dict[str, float]
) -> None:
    """Print the tables of what was measured."""
    print(
        "| Video | a frame, one worker | of all cores | decoding and resizing | file per frame |\n"
        "|---|---|---|---|---|"
    )
    for (height, width), cost in frames.items():
        print(
            f"| {width} x {height} | {1000 * cost.worker:.1f} ms "
            f"| {1000 * cost.processor:.1f} ms | {1000 * cost.decoding:.1f} ms "
            f"| {cost.read / 1000:.1f} KB |"
        )
    print("\n| Besides | |\n|---|---|")
    print(f"| Ray, to start and to end | {costs.run:.1f} s |")
    print(f"| the command and its first worker, to start | {costs.worker:.1f} s |")
    print(f"| cores that a worker keeps busy | {costs.cores:.2f} |")
    print(f"| a video, whatever its length | {1000 * costs.video:.0f} ms |")
    print(f"| looking into a video before the work | {1000 * costs.probe:.1f} ms |")
    for name, size in outputs.items():
        print(f"| {name}, bytes of a frame of 640 x 360 | {size / 1000:.1f} KB |")


def check_model(folder: Path, lengths: Lengths, costs: Costs) -> None:
    """Print runs with several numbers of workers beside what the model says."""
    video = write_video(folder / "checked.mp4", SIZES[0], lengths.checked)
    files = write_list(folder / "checked.txt", video, lengths.several)
    took: dict[int, list[float]] = {n: [] for n in WORKERS}
    for _ in range(lengths.rounds):
        for n in WORKERS:
            took[n].append(seconds(files, n).wall)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    work = Work(videos=lengths.several, frames=lengths.checked)
    print(
        f"\n| Workers, on {cores} cores | measured | model | measured / model |\n|---|---|---|---|"
    )
    for n in WORKERS:
        said = simulate(work, costs, Cluster(workers=n, cores=cores)).seconds
        ours = statistics.median(took[n])
        print(f"| {n} | {ours:.1f} s | {said:.1f} s | {ours / said:.2f} |")


def million(costs: Costs, frame: FrameCost, written: float, cluster: Cluster) -> str:
    """Return the rest of a table's row about a million videos of a minute."""
    work = Work(
        videos=MILLION,
        frames=A_MINUTE,
        video_bytes=A_MINUTE * (frame.read + written),
        at_a_time=AT_A_TIME,
    )
    run = simulate(work, costs, cluster)
    busy = ", ".join(f"{name} {share:.0%}" for name, share in run.busy.items())
    return f"{cluster.workers} | {run.seconds / 3600:.0f} | {run.lost} | {busy} | {run.limit} |"


def ask_for_a_million(costs: Costs, frame: FrameCost, written: float) -> None:
    """Print how long a million videos of a minute take."""
    common = Cluster(
        workers=1, bandwidth=BANDWIDTH, slow_share=SLOW_SHARE, slowdown=SLOWDOWN, losses=LOSSES
    )
    print(
        "\n| Machines | workers | hours | workers lost | busy | limit |\n|---|---|---|---|---|---|"
    )
    for n in MACHINES:
        row = million(costs, frame, written, replace(common, workers=n * CORES, cores=n * CORES))
        print(f"| {n} with {CORES} cores | {row}")
    for rate in GPU_RATES:
        of_gpu = replace(costs, frame=max(1 / rate, frame.decoding / GPU_CORES))
        for n in MACHINES:
            row = million(of_gpu, frame, written, replace(common, workers=n))
            print(f"| {n} with a GPU of {rate} frames/s (assumed) | {row}")


def measure_list(folder: Path, n: int) -> None:
    """Print how long a list of `n` files takes to read and check, and the memory that it needs."""
    path = folder / "million.txt"
    with path.open("w") as file:
        file.writelines(f"folder_{i % 997}/film_{i:09}.mp4\n" for i in range(n))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    count_entries(path)
    read = time.perf_counter() - begun
    check_once(path)
    both = time.perf_counter() - begun
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"A list of {n} files: read in {read:.1f} s, checked for files that are listed twice in "
        f"{both - read:.1f} s more, with {grown:.0f} MB of memory\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try the program, not the machine")
    options = parser.parse_args(arguments)
    lengths = Lengths(3, 9, 2, 4, 1) if options.quick else Lengths()
    with TemporaryDirectory() as name:
        folder = Path(name)
        measure_list(folder, 10_000 if options.quick else MILLION)
        costs, frames = measure_costs(folder, lengths)
        outputs = measure_outputs(folder, lengths)
        print_costs(costs, frames, outputs)
        check_model(folder, lengths, costs)
        ask_for_a_million(costs, frames[SIZES[0]], outputs["overlay (MP4)"])


if __name__ == "__main__":
    main()
