"""What `predict_video` writes for a video, frame by frame: overlay, maps, densities, features.

Each output is a context manager that yields a function to call with every `PredictedFrame` in turn.
Its file or folder gets its name only when the block has ended without an error.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

from unisal.data.video_file import Frame, VideoFile, open_media, start_time
from unisal.files import whole_folder
from unisal.inference.densities import to_saliency_map
from unisal.predict.predictor import FeatureArrays
from unisal.types import Density, SaliencyMap
from unisal.visualize.overlay import draw_overlay
from unisal.writing.formats import DENSITIES, TIMES, MapFormat
from unisal.writing.rows import rows_h5
from unisal.writing.sound import Soundtrack, choose_sound
from unisal.writing.video_writer import VideoWriter

FINEST_UNIT = Fraction(1, 1_000_000)
COARSE_TIME_BASE = Fraction(1, 90_000)
"""In seconds: times in a finer unit than the first one are rounded to multiples of the second."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictedFrame:
    """A frame of a video file with its prediction."""

    frame: Frame
    density: Density
    """`[H, W] float32`, sums to 1."""
    features: FeatureArrays
    """The features by name; empty if they were not asked for."""

    @cached_property
    def saliency_map(self) -> SaliencyMap:
        """The density divided by its highest value, computed once for all outputs."""
        return to_saliency_map(self.density)


Write = Callable[[PredictedFrame], None]
Output = Callable[[Path, VideoFile], AbstractContextManager[Write]]
"""Opens an output: the file or folder to write to, and the video that is predicted."""


@contextmanager
def overlay_video(path: Path, video: VideoFile) -> Iterator[Write]:
    """Write the frames with their maps overlaid as an H.264 video, with their times and sound."""
    unit = video.time_base if video.time_base >= FINEST_UNIT else COARSE_TIME_BASE
    choice, reason = choose_sound(video.path)
    if reason:
        log.warning("%s: its sound cannot be kept (%s); the overlay is silent", video.path, reason)
    with (
        VideoWriter(path, video.rate, video.size, time_base=unit) as writer,
        # The sound needs a container of its own: it is read up to the time of the frame being
        # written, while `video` is already some frames ahead, and a container has one position.
        open_media(video.path) as source,
    ):
        writer.stream.codec_context.sample_aspect_ratio = video.pixel_aspect
        sound = None
        if choice is not None:
            start = start_time(source)
            sound = Soundtrack(source, writer.container, choice, start, video.jumps, video.length)
        last = None

        def write(predicted: PredictedFrame) -> None:
            nonlocal last
            frame = predicted.frame
            if sound is not None:
                sound.copy_until(frame.time)
            pts = round(frame.time / unit)
            last = pts if last is None else max(pts, last + 1)
            picture = draw_overlay(frame.rgb, predicted.saliency_map)
            writer.write(picture, last, max(1, round(frame.duration / unit)))

        yield write
        writer.end_at(round(video.end / unit))
        if sound is not None:
            sound.copy_until(None)
            if sound.fault:
                log.warning("%s: some of its sound is missing (%s)", video.path, sound.fault)


def map_output(map_format: MapFormat) -> Output:
    """Return the output that writes a video's maps in a format.

    Grey pictures go to `000001.png`, ... in a folder. Densities go to one file with the arrays
    `densities`, `[n, H, W] float32`, and `times`, `[n] float64` in seconds.
    """
    if map_format.holds_densities:
        return partial(_density_rows, map_format=map_format)
    return partial(_map_pictures, map_format=map_format)


def is_folder(output: Output) -> bool:
    """Return whether an output is a folder of pictures rather than a file."""
    return isinstance(output, partial) and output.func is _map_pictures


@contextmanager
def _map_pictures(path: Path, _video: VideoFile, map_format: MapFormat) -> Iterator[Write]:
    """Write a picture per frame into a folder."""
    with whole_folder(path) as folder:
        n_frames = 0

        def write(predicted: PredictedFrame) -> None:
            nonlocal n_frames
            n_frames += 1
            name = f"{n_frames:06d}{map_format.suffix}"
            map_format.write(folder / name, predicted.saliency_map)

        yield write
        if path.exists():  # with --overwrite
            shutil.rmtree(path)


@contextmanager
def _density_rows(path: Path, _video: VideoFile, map_format: MapFormat) -> Iterator[Write]:
    """Write the densities of all frames into one file."""
    assert map_format.open_rows is not None
    with map_format.open_rows(path, DENSITIES, TIMES) as append:
        yield lambda predicted: append(predicted.density, float(predicted.frame.time))


@contextmanager
def features_h5(path: Path, _video: VideoFile, name: str) -> Iterator[Write]:
    """Write the features `name`, `[n, C, h, w] float32`, and `times` to an HDF5 file."""
    with rows_h5(path, name, TIMES) as append:
        yield lambda predicted: append(predicted.features[name], float(predicted.frame.time))
