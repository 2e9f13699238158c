"""What the workers of the fuzz tests do: they read damaged inputs, one after the other.

Each function reads inputs of one kind; it may refuse them with a `UserError`. Anything else ends
the worker, and so do an input that takes too long and one that needs too much memory.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from faults.samples import STIMULI, damaged_file, network, write_stimuli
from support import write_photo

from unisal.data.gaze.pysaliency import read_fixations
from unisal.data.gaze.reading import load_gaze
from unisal.data.pictures import (
    displayed_size,
    picture_size,
    read_grey,
    read_grey_levels,
    read_rgb,
)
from unisal.data.salicon import read_mat_fixations, read_mat_observers
from unisal.data.video_file import VideoFile
from unisal.errors import UserError
from unisal.model.weights import load_state, read_state

SECONDS_PER_INPUT = 60
"""After this long an input counts as one that hangs; the machine may be busy."""
MEMORY_MB = 3000
"""How much memory a worker may take beyond that of the program itself."""
MAX_FRAMES = 200


def read_picture(path: Path) -> None:
    refused = 0
    for read in (picture_size, displayed_size, read_rgb, read_grey, read_grey_levels):
        try:
            read(path)
        except UserError as error:
            check_message(error, path)
            refused += 1
    if refused:
        raise UserError(f"{path}: {refused} readers refused it")


def read_film(path: Path) -> None:
    with VideoFile(path) as video:
        for frame in islice(video, MAX_FRAMES):
            assert frame.rgb.shape == (*video.size, 3)


def read_mat(path: Path) -> None:
    read_mat_observers(path)
    read_mat_fixations(path)


def read_weights(path: Path) -> None:
    load_state(network(), read_state(path), str(path))


def read_gaze(path: Path) -> None:
    """Read a table beside the pictures that it is about."""
    read_beside(path, path.name, load_gaze)


def read_pysaliency(path: Path) -> None:
    """Read fixations of pysaliency beside the stimuli that they are about."""
    read_beside(path, "fixations.hdf5", read_fixations)


def read_beside(path: Path, name: str, read: Callable[[Path], object]) -> None:
    """Read a copy of a file in a folder with pictures, and with pysaliency's list of them."""
    folder = Path(tempfile.gettempdir(), "gaze")
    for picture, size in STIMULI.items():
        if not (folder / picture).exists():
            write_photo(folder / picture, size)
    write_stimuli(folder / "stimuli.hdf5")
    copy = folder / name
    shutil.copyfile(path, copy)
    try:
        read(copy)
    except UserError as error:
        check_message(error, folder)
        raise UserError(f"{path}: {error}") from None
    finally:
        copy.unlink()


READERS: dict[str, Callable[[Path], None]] = {
    "picture": read_picture,
    "film": read_film,
    "mat": read_mat,
    "weights": read_weights,
    "table": read_gaze,
    "pysaliency": read_pysaliency,
}


def check_message(error: UserError, path: Path) -> None:
    """Check that a message names the file."""
    assert str(path) in str(error), f"{error!r} does not name {path.name}"


def read_damaged(kind: str, first: int, n: int, samples: str, folder: str, progress: str) -> None:
    """Read `n` damaged files of a kind from a number on, and count those that are refused.

    Before each, its number is written to the file `progress`; at the end, the counts.
    """
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    refused = 0
    for number in range(first, first + n):
        Path(progress).write_text(str(number))
        path = damaged_file(kind, number, Path(samples), Path(folder))
        signal.alarm(SECONDS_PER_INPUT)
        refused += is_refused(READERS[kind], path)
        signal.alarm(0)
        path.unlink()
    Path(progress).write_text(json.dumps({"tried": n, "refused": refused}))


def read_case(kind: str, path: str) -> None:
    """Read one file that made trouble once."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS_PER_INPUT)
    copy = Path.cwd() / Path(path).name
    shutil.copyfile(path, copy)
    print("refused" if is_refused(READERS[kind], copy) else "read")


def is_refused(read: Callable[[Path], None], path: Path) -> bool:
    """Read a file; return whether it was refused."""
    before = path.read_bytes()
    try:
        read(path)
    except UserError as error:
        check_message(error, path)
        return True
    finally:
        assert path.read_bytes() == before, "the input was changed"
    return False
