"""Measure how fast videos are decoded: whether decoding keeps up with a GPU, and with what.

`python -m benchmarks.decoding` prints frames per second, to pixels in RGB, of this program's reader
and of others that are installed (`pip install torchcodec` for one that can decode on a GPU), and
how far their pixels are apart. They take turns. A GPU that predicts F frames per second needs F
times the processor time of a frame, in cores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks.scaling import SIZES, write_video
from unisal.data.video_file import VideoFile
from unisal.types import RGB

Reader = Callable[[Path], Iterator[RGB]]
OURS = "this program (PyAV)"


class Took(NamedTuple):
    """Of a frame, in seconds."""

    wall: float
    processor: float


def ours(path: Path) -> Iterator[RGB]:
    """Decode as predictions do."""
    with VideoFile(path) as video:
        for frame in video:
            yield frame.rgb


def opencv(path: Path) -> Iterator[RGB]:
    """Decode with OpenCV."""
    capture = cv2.VideoCapture(str(path))
    while True:
        there, bgr = capture.read()
        if not there:
            break
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    capture.release()


def torchcodec(threads: int) -> Reader:
    """Return a reader that decodes with torchcodec, in so many threads."""

    def read(path: Path) -> Iterator[RGB]:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(
            str(path), dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode="approximate"
        )
        for frame in decoder:
            yield frame.numpy()

    return read


def readers(path: Path) -> dict[str, Reader]:
    """Return the readers that can decode a video here, by their names."""
    found: dict[str, Reader] = {OURS: ours, "OpenCV": opencv}
    if find_spec("torchcodec"):
        others = {"1 thread": torchcodec(1), "threads of its choice": torchcodec(0)}
        try:
            next(others["1 thread"](path))
        except (RuntimeError, ImportError) as error:  # it needs FFmpeg's libraries on the system
            print(f"torchcodec does not load: {str(error).splitlines()[0]}\n")
        else:
            found |= {f"torchcodec, {name}": read for name, read in others.items()}
    return found


def decode(read: Reader, path: Path) -> Took:
    """Decode all of a video."""
    wall, processor, n = time.perf_counter(), time.process_time(), 0
    for _ in read(path):
        n += 1
    return Took((time.perf_counter() - wall) / n, (time.process_time() - processor) / n)


def distance(read: Reader, path: Path) -> int:
    """Return by how many levels pixels are apart from ours, at most; frames have to be as many."""
    pairs = zip(read(path), ours(path), strict=True)
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table.

    Args:
        arguments: by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        paths = {
            size: write_video(Path(folder) / f"{size[0]}.mp4", size, given.frames) for size in SIZES
        }
        known = readers(paths[SIZES[0]])
        print("| video | reader | frames per second | processor time of a frame | levels apart |")
        print("|---|---|---|---|---|")
        for size, path in paths.items():
            turns = [
                {name: decode(read, path) for name, read in known.items()}
                for _ in range(given.rounds)
            ]
            for name, read in known.items():
                wall = statistics.median(turn[name].wall for turn in turns)
                processor = statistics.median(turn[name].processor for turn in turns)
                said = f"| {size[1]} x {size[0]} | {name} | {1 / wall:.0f} "
                said += f"| {1000 * processor:.1f} ms | {distance(read, path)} |"
                print(said, flush=True)


if __name__ == "__main__":
    main()
