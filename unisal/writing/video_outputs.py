"""What `predict_video` writes of a video, frame by frame: overlay, maps, densities, features.

Each output is a context manager that gives a function to call with every `Prediction` in turn. Its
file or folder has its name only once the block has ended without an error.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.data.video_file import Frame, VideoFile, open_media, start_time
from unisal.files import whole_file, whole_folder
from unisal.predict.predictor import FeatureArrays
from unisal.visualize.overlay import draw_overlay
from unisal.writing.maps import to_16_bit_grey_levels, to_grey_levels
from unisal.writing.sound import Soundtrack
from unisal.writing.video_writer import VideoWriter

FINEST_UNIT = Fraction(1, 1_000_000)
COARSE_UNIT = Fraction(1, 90_000)
"""Seconds: times in a finer unit than the first are rounded to the second one."""
DENSITIES, TIMES = "densities", "times"
"""Names in `.npz` and `.h5` files."""
COPY_SIZE = 1 << 20

log = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """A frame with what was predicted of it."""

    frame: Frame
    density: NDArray[np.float32]
    """`[H, W]`, sum 1."""
    features: FeatureArrays
    """By name; empty where they were not asked for."""


Write = Callable[[Prediction], None]
Output = Callable[[Path, VideoFile], AbstractContextManager[Write]]


@contextmanager
def overlay_video(path: Path, video: VideoFile) -> Iterator[Write]:
    """An H.264 video of the frames with their maps over them, with the video's times and sound."""
    unit = video.time_base if video.time_base >= FINEST_UNIT else COARSE_UNIT
    with (
        VideoWriter(path, video.rate, video.size, time_base=unit) as writer,
        open_media(video.path) as source,
    ):
        writer.stream.codec_context.sample_aspect_ratio = video.pixel_aspect
        sound = Soundtrack(source, writer.container, start_time(source))
        last = None

        def write(prediction: Prediction) -> None:
            nonlocal last
            frame = prediction.frame
            sound.copy_until(frame.time)
            pts = round(frame.time / unit)
            last = pts if last is None else max(pts, last + 1)
            picture = draw_overlay(frame.rgb, prediction.density)
            writer.write(picture, last, max(1, round(frame.duration / unit)))

        yield write
        writer.end_at(round(video.end / unit))
        sound.copy_until(None)
        if sound.fault:
            log.warning("%s: its sound is damaged and may be cut off (%s)", video.path, sound.fault)


@contextmanager
def map_pictures(path: Path, _video: VideoFile, sixteen_bit: bool = False) -> Iterator[Write]:
    """A folder of grey pictures `000001.png`, ..., the most salient pixel of each white."""
    levels = to_16_bit_grey_levels if sixteen_bit else to_grey_levels
    with whole_folder(path) as folder:
        n_frames = 0

        def write(prediction: Prediction) -> None:
            nonlocal n_frames
            n_frames += 1
            Image.fromarray(levels(prediction.density)).save(folder / f"{n_frames:06d}.png")

        yield write
        if path.exists():  # one that is to be written anew
            shutil.rmtree(path)


@contextmanager
def densities_npz(path: Path, video: VideoFile) -> Iterator[Write]:
    """A `.npz` file: `densities` `[n, H, W] float32`, and `times` `[n] float64` in seconds."""
    with whole_file(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as pixels:
        times = array("d")

        def write(prediction: Prediction) -> None:
            pixels.write(np.ascontiguousarray(prediction.density).data)
            times.append(float(prediction.frame.time))

        yield write
        # Their number, which stands before them in the file, is known only now.
        pixels.seek(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(times), *video.size)}
        with zipfile.ZipFile(temporary, "w") as archive:
            with archive.open(f"{DENSITIES}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(pixels, member, COPY_SIZE)
            with archive.open(f"{TIMES}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.array(times, dtype="<f8"))


@contextmanager
def densities_h5(path: Path, _video: VideoFile) -> Iterator[Write]:
    """An HDF5 file: `densities` `[n, H, W] float32`, and `times` `[n] float64` in seconds."""
    with _h5_file(path, DENSITIES) as append:
        yield lambda prediction: append(prediction.density, prediction.frame.time)


@contextmanager
def features_h5(path: Path, _video: VideoFile, name: str) -> Iterator[Write]:
    """An HDF5 file: features of that name `[n, C, h, w] float32`, and `times` as above."""
    with _h5_file(path, name) as append:
        yield lambda prediction: append(prediction.features[name], prediction.frame.time)


@contextmanager
def _h5_file(path: Path, name: str) -> Iterator[Callable[[NDArray[np.float32], Fraction], None]]:
    """-> what adds an array, and its time, to the rows of a data set."""
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        times = file.create_dataset(TIMES, (0,), "f8", maxshape=(None,), chunks=(1024,))

        def append(values: NDArray[np.float32], time: Fraction) -> None:
            if name not in file:
                shape = values.shape
                file.create_dataset(
                    name, (0, *shape), "f4", maxshape=(None, *shape), chunks=(1, *shape)
                )
            for rows, row in ((file[name], values), (times, float(time))):
                rows.resize(len(rows) + 1, axis=0)
                rows[-1] = row

        yield append
