"""Measure the latency of a stream, from RGB to density.

`python -m benchmarks.stream_latency` prints percentiles over the frames after the first ones, which
also pay for starting up; and the mean next to that of the same frames predicted as a whole video.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from unisal import load
from unisal.config import examples_dir
from unisal.data.pictures import list_pictures, read_rgb

PERCENTILES = 50, 95, 99


def make_frames(size: tuple[int, int], n: int) -> Iterator[NDArray[np.uint8]]:
    """Yield `n` frames `[H, W, 3]` of the example video, forwards and backwards, at `size`."""
    paths = list_pictures(examples_dir() / "DHF1K" / "otters" / "images")
    for path in islice(cycle(paths + paths[::-1]), n):
        yield np.asarray(Image.fromarray(read_rgb(path)).resize(size[::-1]))


def write_frames(folder: Path, size: tuple[int, int], n: int) -> None:
    """Write `n` distinct frames of `size` as JPEG files into a new folder."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(make_frames(size, n), 1):
        shifted = np.roll(frame, 2 * number, axis=1)
        Image.fromarray(shifted).save(folder / f"{number:04d}.jpg", quality=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200, help="how many are timed")
    parser.add_argument("--warm_up", type=int, default=10, help="how many before them are not")
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--train_id", default=None, help="the run whose weights to use")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)

    predictor = load(options.train_id, options.device)
    size = options.height, options.width
    frames = list(make_frames(size, options.warm_up + options.frames))
    stream = predictor.stream()
    took = []
    for frame in frames:
        begun = time.perf_counter()
        stream.step(frame)
        took.append(1000 * (time.perf_counter() - begun))
    took = took[options.warm_up :]
    begun = time.perf_counter()
    n_densities = sum(1 for _ in predictor.video(frames[options.warm_up :]))
    offline = 1000 * (time.perf_counter() - begun) / n_densities

    where = f"{predictor.engine.device}, {torch.get_num_threads()} threads"
    print(f"{len(took)} frames of {options.width} x {options.height}, {where}")
    for share, value in zip(PERCENTILES, np.percentile(took, PERCENTILES), strict=True):
        print(f"{share}th percentile {value:8.1f} ms")
    mean = np.mean(took)
    print(f"mean            {mean:8.1f} ms, {mean / offline:.2f} of a frame of a whole video")


if __name__ == "__main__":
    main()
