"""Small folders of gaze data for tests."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from support import photo, write_photo

HEADER = ("stimulus", "observer", "x", "y", "start_ms", "duration_ms")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], sep: str = ","):
    """Write a table as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=sep)
        writer.writerow(header)
        writer.writerows(rows)


def write_gaze(
    folder: Path,
    sizes: Mapping[str, tuple[int, int]],
    n_observers: int = 3,
    n_fixations: int = 4,
    seed: int = 0,
) -> list[tuple[Any, ...]]:
    """Write pictures of some sizes, by their names, and a table; return its rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, (name, size) in enumerate(sizes.items()):
        write_photo(folder / "stimuli" / name, size, seed=number)
        for who in range(n_observers):
            for nth in range(n_fixations):
                x, y = (round(float(rng.uniform(1, side - 2)), 1) for side in size[::-1])
                rows.append((name, f"p{who + 1}", x, y, 250 * nth, 200))
    write_table(folder / "fixations.csv", HEADER, rows)
    return rows


def write_film(path: Path, n_frames: int, size=(64, 96), rate: int = 25, keyframes: int = 12):
    """Write a film whose frames can be told apart: frame i has the grey level 8 + 4 i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": str(keyframes), "qp": "1", "bf": "2"}
        for i in range(n_frames):
            pixels = np.full((*size, 3), 8 + 4 * (i % 60), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def film_pictures(folder: Path, n_frames: int, size=(48, 64)) -> None:
    """Write a film as a folder of pictures."""
    for i in range(n_frames):
        write_photo(folder / f"{i + 1:03d}.png", size, seed=i)


def frame_number(rgb: np.ndarray) -> int:
    """Return which frame of a film of `write_film` a picture is, from 0."""
    return round((float(rgb.mean()) - 8) / 4)


__all__ = [
    "HEADER",
    "film_pictures",
    "frame_number",
    "photo",
    "write_film",
    "write_gaze",
    "write_table",
]
