"""Pictures and frames of a folder, predicted and written here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.commands.folder_jobs import (
    FolderJob,
    next_key,
)
from unisal.commands.frames import FRAMES_AHEAD, read_frames
from unisal.commands.picture_folders import (
    Failure,
)
from unisal.commands.places import until_lost
from unisal.commands.progress import TERMINAL
from unisal.data.pictures import read_rgb, read_rgb_image
from unisal.errors import SomeFailed, UserError, cause
from unisal.files import PlaceWatch, content_key
from unisal.inference.densities import check_finite
from unisal.inference.runtime import Frame
from unisal.predict import Predictor, load
from unisal.predict.facts import Facts
from unisal.predict.inputs import prepare
from unisal.predict.presets import (
    find_preset,
    run_presets,
)
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.progress import Bar
from unisal.threads import in_threads
from unisal.types import Density, Size

log = logging.getLogger(__name__)


class How(NamedTuple):
    """How pictures are predicted."""

    predictor: Predictor
    source: str
    """The name of the preset."""
    domain: str
    """The network domain to use."""
    smooth_method: str | None = None
    """See `Predictor.video`."""

    def facts(self, is_video: bool) -> Facts:
        """Return with what pictures, or the frames of videos, are predicted."""
        return self.predictor.facts(self.source, self.domain, is_video)


class Recipe(NamedTuple):
    """What it takes to predict as others do, in any process; see `predict_folders`."""

    train_id: str | None
    source: str
    device: str
    precision: str = "fp32"
    tta: str | None = None
    model_domain: str | None = None
    smooth_method: str | None = None

    def how(self, is_video: bool) -> How:
        """Load the network.

        Args:
            is_video: whether pictures are the frames of videos.

        Raises:
            UserError: what `unisal.predict.load` raises, or the network has no such domain.
        """
        own = run_presets(self.train_id)
        preset = find_preset(self.source, for_images=not is_video, own=own)
        fine_tuned = preset.fine_tuned
        predictor = load(self.train_id, self.device, fine_tuned, self.precision, tta=self.tta)
        domain = predictor.engine.domain(self.model_domain or preset.domain)
        return How(predictor, self.source, domain, self.smooth_method)


def bar_of(
    jobs: Sequence[FolderJob], unfinished: Sequence[list[Path]], sizes: Mapping[Path, Size]
) -> Bar:
    """Return the bar that counts pictures, those that were finished before among them."""
    n_all, n_todo = (sum(map(len, some)) for some in ([j.pictures for j in jobs], unfinished))
    unit = "frame" if sizes else "image"
    return TERMINAL.bar(jobs[0].found.name, unit, n_all, n_all - n_todo)


class Tally:
    """Counts what becomes of the pictures of a folder.

    Args:
        job: what is written for them.
        todo: those that are to be predicted.
        bar: counts them too.
        tell: is told of each picture that failed.
    """

    def __init__(
        self,
        job: FolderJob,
        todo: Sequence[Path],
        bar: Bar,
        tell: Callable[[Path, Exception], object] | None = None,
    ) -> None:
        self.job = job
        self.todo = todo
        self.n_done = 0
        self.failed: list[Path] = []
        self._bar = bar
        self.tell = tell or (lambda path, error: log.error("%s", said_of(path, error)))
        self._watch = PlaceWatch()

    def count(self, path: Path, error: Exception | None) -> None:
        """Count a picture, and why it failed if it did.

        Raises:
            OSError: nothing can be written any more.
        """
        self._bar.update()
        if error is None:
            self.n_done += 1
        else:
            self.tell(path, error)
        unwritten = error if isinstance(error, OSError) else None
        if self._watch.is_lost(self.job.maps_folder, unwritten) and unwritten is not None:
            raise unwritten
        self.failed += [path] if error is not None else []

    def count_video(self) -> None:
        """Count the pictures as the frames of a video that is done."""
        self._bar.update(len(self.todo))
        self.n_done = len(self.todo)

    def said(self) -> str:
        """Say how far the folder is."""
        n_before = len(self.job.pictures) - len(self.todo)
        return said_done(self.job, n_before + self.n_done)

    def failures(self) -> list[Failure]:
        """Return what failed, as one error."""
        if not self.failed:
            return []
        names = ", ".join(path.name for path in self.job.pictures if path in set(self.failed))
        error = SomeFailed(
            f"{len(self.failed)} of {len(self.job.pictures)} pictures in {self.job.found.source} "
            f"could not be predicted: {names}"
        )
        return [Failure(self.job.found.place, error)]

    def say_done(self, sizes: Mapping[Path, Size]) -> None:
        """Print what was written, unless there was nothing to do or an error ended the work."""
        if self.todo and self.n_done + len(self.failed) == len(self.todo):
            is_video = self.job.found.source in sizes
            place = self.job.video_place if is_video else self.job.maps_folder
            self.job.say_done(self.n_done, place)


def said_of(path: Path, error: Exception) -> str:
    """Say in a line why a picture has no map."""
    if isinstance(error, UserError):
        return str(error)
    unwritten = "no map can be written: " if isinstance(error, OSError) else ""
    return f"{path}: {unwritten}{error if isinstance(error, OSError) else cause(error)}"


def predict_video_folder(how: How, job: FolderJob, size: Size, bar: Bar) -> None:
    """Predict pictures that are the frames of one video.

    Args:
        how: how to predict.
        job: the frames in order, and what to write for them.
        size: (height, width) of the frames.
        bar: counts the frames.

    Raises:
        UserError: a frame is damaged or of another size. Pictures of earlier frames may have been
            written; a file of densities is not.
        PlaceLost: nothing can be written any more.
    """
    workers = how.predictor.engine.video_workers
    window = smoothing_window(how.smooth_method)
    is_logits = window == 1

    def finish(result: tuple[KeyedFrame, NDArray[np.float32]]) -> tuple[KeyedFrame, Density | None]:
        frame, y = result
        check_finite(y, f"the prediction for {frame.path}")
        maps = job.maps_of(y, size, is_logits)
        if not job.holds_densities:
            job.write_map(frame.path, maps, frame.key)
        if job.overlay:  # read again: keeping the frames until now could take a lot of memory
            job.write_overlay(frame.path, read_rgb(frame.path), maps, frame.key)
        return frame, maps.density

    found, n_done = predict_frames(how, job, size, window), 0
    done = lambda: said_done(job, 0 if job.holds_densities else n_done)  # noqa: E731
    with until_lost(job.maps_folder, done), job.open_video_file() as append:
        for frame, density in in_threads(finish, found, workers, FRAMES_AHEAD):
            if append is not None and density is not None:
                append(density, frame.path.name, frame.key)
            bar.update()
            n_done += 1


class KeyedFrame(NamedTuple):
    """A frame of a video in a folder."""

    path: Path
    key: str
    """See `unisal.commands.folder_jobs.next_key`."""


def predict_frames(
    how: How, job: FolderJob, size: Size, window: int
) -> Iterator[tuple[KeyedFrame, NDArray[np.float32]]]:
    """Predict the frames of a video.

    Args:
        how: how to predict.
        job: the frames in order.
        size: (height, width) of the frames.
        window: over how many frames the median is taken.

    Yields:
        Each frame with its logits or, where a median is taken, its log-density.
    """
    predictor, preset = how.predictor, find_preset(how.source, own=how.predictor.presets)
    workers, input_size = predictor.engine.video_workers, preset.input_size_for(size)

    def with_content(path: Path, _: Image.Image) -> tuple[Path, str]:
        return path, content_key(path)

    read = read_frames(job.pictures, size, input_size, workers, with_content)
    inputs = _with_keys(read, job.first_key)
    if window == 1:  # resized only when they are written: that saves time and memory
        return predictor.engine.video_logits(inputs, how.domain, preset.frame_step)
    predictions = predictor.log_densities(inputs, size, how.domain, preset.frame_step)
    return median_over_time(((p.key, p.log_density) for p in predictions), window)


def _with_keys(
    frames: Generator[tuple[tuple[Path, str], Frame], None, None], key: str
) -> Iterator[tuple[KeyedFrame, Frame]]:
    """Replace the key of each frame's content by that of its map."""
    with closing(frames):
        for (path, content), x in frames:
            key = next_key(key, content)
            yield KeyedFrame(path, key), x


def predict_image_folder(how: How, tally: Tally) -> None:
    """Predict unrelated pictures that are not finished.

    Args:
        how: how to predict.
        tally: counts them.

    Raises:
        PlaceLost: nothing can be written any more.
    """
    with until_lost(tally.job.maps_folder, tally.said):
        for path, error in predict_pictures(how, tally.job, tally.todo):
            tally.count(path, error)


def predict_pictures(
    how: How, job: FolderJob, pictures: Sequence[Path]
) -> Iterator[tuple[Path, UserError | OSError | None]]:
    """Predict unrelated pictures, several at a time.

    Args:
        how: how to predict.
        job: what to write for them.
        pictures: some of its pictures.

    Returns:
        An iterator over the pictures, with why each could not be read or its map not be
        written; None where it is done.
    """
    engine, preset = (
        how.predictor.engine,
        find_preset(how.source, for_images=True, own=how.predictor.presets),
    )

    def predict(path: Path) -> tuple[Path, UserError | OSError | None]:
        try:
            image = read_rgb_image(path)
            key = job.picture_key(path)
        except UserError as error:
            return path, error
        except OSError as error:
            return path, UserError(f"{path} cannot be read: {error.strerror}")
        size = image.height, image.width
        x = prepare(image, preset.input_size_for(size))
        y = engine.image_logits(x[None], how.domain, concurrent=True)[0]
        check_finite(y, f"the prediction for {path}")
        maps = job.maps_of(y, size, is_logits=True)
        try:
            job.write_map(path, maps, key)
            if job.overlay:
                job.write_overlay(path, np.asarray(image), maps, key)
        except OSError as error:
            return path, error
        return path, None

    return in_threads(predict, pictures, engine.workers)


def said_done(job: FolderJob, n_done: int) -> str:
    """Say how many pictures of a folder are done."""
    return f"{n_done} of {len(job.pictures)} pictures in {job.found.source}"
