"""The commands `predictions_from_folder` and `predict_examples`: whole folders of pictures.

See docs/behaviour.md, "Commands and files".
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.commands.frames import FRAMES_AHEAD, check_frames, read_frames
from unisal.commands.progress import TERMINAL
from unisal.config import examples_dir
from unisal.data.pictures import list_pictures, read_rgb, read_rgb_image
from unisal.errors import SomeFailed, UserError
from unisal.files import natural_order
from unisal.inference.densities import (
    check_finite,
    log_density,
    saliency_map,
    to_density,
    to_saliency_map,
)
from unisal.inference.engine import Engine
from unisal.predict import Predictor, load
from unisal.predict.inputs import prepare
from unisal.predict.presets import (
    IMAGE_PRESET,
    VIDEO_PRESET,
    Preset,
    find_preset,
    is_video_preset,
    run_presets,
)
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.threads import in_threads
from unisal.types import RGB, Density, SaliencyMap, Size
from unisal.visualize.overlay import draw_overlay
from unisal.writing.formats import DENSITIES, NAMES, MapFormat, distinct_names, find_map_format
from unisal.writing.maps import write_map, write_overlay
from unisal.writing.rows import Append

EXAMPLE_IMAGE_FOLDERS = ("SALICON", "MIT1003")
"""Folders of images in `examples/`; all others hold videos."""
IMAGES, MAPS, OVERLAYS = "images", "saliency", "overlay"
"""Subfolders: the one that is read, and the two that are written."""

log = logging.getLogger(__name__)


def predict_folder(
    *,
    folder: Path,
    is_video: bool,
    source: str | None,
    train_id: str | None,
    model_domain: str | None,
    overlay: bool,
    maps: str | None,
    smooth_method: str | None,
    device: str,
) -> None:
    """Predict `<folder>/images/*` into `<folder>/saliency/` (and `<folder>/overlay/`).

    Args:
        folder: holds pictures, or with `is_video` the frames of one video, in natural order.
        is_video: whether the pictures are one video.
        source: the name of the preset, see `unisal.predict.presets`; by default the one for
            images or for videos.
        train_id: the run whose weights to use.
        model_domain: the network domain to use; by default the preset's.
        overlay: whether to write the pictures with their maps overlaid as well.
        maps: a key of `unisal.writing.formats.MAP_FORMATS`; None for grey pictures with the names
            and formats of the pictures.
        smooth_method: see `Predictor.video`.
        device: where to run.

    Raises:
        UserError: the folder has no pictures, a video's frames differ in size or one of them cannot
            be read, or an option is wrong; nothing was done. A video also ends at a frame that
            turns out to be damaged when it is read.
        SomeFailed: some images could not be read; all others are done.
    """
    source = source or (VIDEO_PRESET if is_video else IMAGE_PRESET)
    preset = find_preset(source, for_images=not is_video, own=run_presets(train_id))
    smoothing_window(smooth_method)  # a mistake is found before the files are looked at
    if smooth_method is not None and not is_video:
        raise UserError("smooth_method is for videos only; it needs is_video=True")
    map_format = None if maps is None else find_map_format(maps)
    job = FolderJob(folder, find_pictures(folder), overlay, map_format)
    size = check_frames(job.pictures) if is_video else None
    predictor = load(train_id, device, preset.fine_tuned)
    domain = predictor.engine.domain(model_domain or preset.domain)
    if size is not None:
        predict_video_folder(predictor, job, size, source, domain, smooth_method)
    else:
        predict_image_folder(predictor.engine, job, preset, domain)


class ExampleFolder(NamedTuple):
    """A folder with pictures in `images/`, and the name of the preset to predict them with."""

    folder: Path
    preset: str
    is_video: bool


def predict_examples(
    *, train_id: str | None, folder: Path | None, overlay: bool, device: str
) -> None:
    """Predict every folder of images and every video below a folder.

    Args:
        train_id: the run whose weights to use.
        folder: see `find_examples`; None for `examples/`.
        overlay: whether to write the pictures with their maps overlaid as well.
        device: where to run.

    Raises:
        UserError: there is nothing to predict.
        SomeFailed: as for `predict_folder`; also if a video cannot be predicted.
    """
    folder = folder or examples_dir()
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist")
    examples = find_examples(folder)
    if not examples:
        names = " or ".join(f"{name}/{IMAGES}" for name in EXAMPLE_IMAGE_FOLDERS)
        raise UserError(
            f"{folder} holds no pictures; expected {names}, or {VIDEO_PRESET}/VIDEO/{IMAGES}"
        )
    failed = []
    for example in examples:
        predictor = load(train_id, device, find_preset(example.preset).fine_tuned)
        try:
            predict_example(predictor, example, overlay)
        except SomeFailed as error:
            failed.append(str(error))
    if failed:
        raise SomeFailed("; ".join(failed))


def find_examples(folder: Path) -> list[ExampleFolder]:
    """Find the folders of pictures below a folder, without hidden ones.

    Args:
        folder: its subfolders `SALICON` and `MIT1003` are folders of images; every other one holds
            a folder per video.
    """
    found = []
    for inside in _visible_folders(folder):
        if inside.name in EXAMPLE_IMAGE_FOLDERS:
            found.append(ExampleFolder(inside, inside.name, is_video=False))
        else:
            preset = inside.name if is_video_preset(inside.name) else VIDEO_PRESET
            found += [ExampleFolder(v, preset, is_video=True) for v in _visible_folders(inside)]
    return [example for example in found if has_pictures(example.folder)]


def predict_example(predictor: Predictor, example: ExampleFolder, overlay: bool) -> None:
    """Predict one folder of examples.

    Raises:
        SomeFailed: some of its images, or its video, could not be predicted.
    """
    job = FolderJob(example.folder, find_pictures(example.folder), overlay)
    preset = find_preset(example.preset)
    domain = predictor.engine.domain(preset.domain)
    if not example.is_video:
        predict_image_folder(predictor.engine, job, preset, domain)
        return
    try:
        size = check_frames(job.pictures)
        predict_video_folder(predictor, job, size, example.preset, domain)
    except UserError as error:
        raise SomeFailed(f"video {example.folder}: {error}") from None


class PictureMaps(NamedTuple):
    """The prediction of one picture in the forms that are written."""

    saliency_map: SaliencyMap
    density: Density | None
    """None where densities are not written."""


@dataclass(frozen=True)
class FolderJob:
    """The pictures of a folder, and what is written for them."""

    folder: Path
    pictures: list[Path]
    overlay: bool
    map_format: MapFormat | None = None
    """None for grey pictures with the names and formats of the pictures."""

    @property
    def holds_densities(self) -> bool:
        """Whether densities are written rather than saliency maps."""
        return self.map_format is not None and self.map_format.holds_densities

    @property
    def video_place(self) -> Path:
        """Where a video's maps go: the file of its densities, or the folder of pictures."""
        if self.map_format is None or not self.holds_densities:
            return self.folder / MAPS
        return self.folder / MAPS / (self.folder.resolve().name + self.map_format.video_ending)

    def open_rows(self) -> AbstractContextManager[Append | None]:
        """Open the file of a video's densities; None where pictures are written."""
        if self.map_format is None or self.map_format.open_rows is None:
            return nullcontext()
        return self.map_format.open_rows(self.video_place, DENSITIES, NAMES)

    def maps_of(self, y: NDArray[np.float32], size: Size, is_logits: bool) -> PictureMaps:
        """Turn a prediction into the forms that are written.

        Args:
            y: `[h, w] float32`, logits of any size, or the log-density.
            size: (height, width) of the picture.
            is_logits: whether `y` holds logits.
        """
        if is_logits and not self.holds_densities:
            return PictureMaps(saliency_map(y, size), None)
        density = to_density(log_density(y, size) if is_logits else y)
        return PictureMaps(to_saliency_map(density), density if self.holds_densities else None)

    def write_map(self, picture: Path, maps: PictureMaps) -> None:
        """Write the map of a picture."""
        if self.map_format is None:
            write_map(self.folder / MAPS / picture.name, maps.saliency_map)
            return
        path = self.folder / MAPS / (self._names[picture] + self.map_format.suffix)
        self.map_format.write(path, maps.saliency_map if maps.density is None else maps.density)

    def write_overlay(self, picture: Path, rgb: RGB, maps: PictureMaps) -> None:
        """Write a picture with its map overlaid."""
        overlaid = draw_overlay(rgb, maps.saliency_map)
        write_overlay(self.folder / OVERLAYS / picture.name, overlaid)

    def say_done(self, n_maps: int, place: Path) -> None:
        """Print what was written, and where."""
        what = "densities" if self.holds_densities else "saliency maps"
        also = f", overlays in {self.folder / OVERLAYS}" if self.overlay else ""
        print(f"{n_maps} {what} in {place}{also}")

    @cached_property
    def _names(self) -> dict[Path, str]:
        """The names of the pictures' maps, without suffix."""
        return distinct_names(self.pictures)


def predict_video_folder(
    predictor: Predictor,
    job: FolderJob,
    size: Size,
    source: str,
    domain: str,
    smooth_method: str | None = None,
) -> None:
    """Predict pictures that are the frames of one video.

    Args:
        predictor: whose network to use.
        job: the frames in order, and what to write for them.
        size: (height, width) of the frames.
        source: the name of the preset.
        domain: the network domain to use.
        smooth_method: see `Predictor.video`.

    Raises:
        UserError: a frame is damaged or of another size. Pictures of earlier frames may have been
            written; a file of densities is not.
    """
    workers, window = predictor.engine.video_workers, smoothing_window(smooth_method)
    preset = find_preset(source, own=predictor.presets)
    input_size = preset.input_size_for(size)
    inputs = read_frames(job.pictures, size, input_size, workers, key=lambda path, _: path)
    is_logits = window == 1
    found: Iterator[tuple[Path, NDArray[np.float32]]]
    if is_logits:  # resized only when they are written: that saves time and memory
        logits = predictor.engine.video_logits(inputs, domain, preset.frame_step)
        found = ((path, y.cpu().numpy()) for path, y in logits)
    else:
        predictions = predictor.log_densities(inputs, size, domain, preset.frame_step)
        found = median_over_time(((p.key, p.log_density) for p in predictions), window)

    def finish(result: tuple[Path, NDArray[np.float32]]) -> tuple[Path, Density | None]:
        path, y = result
        check_finite(y, f"the prediction for {path}")
        maps = job.maps_of(y, size, is_logits)
        if not job.holds_densities:
            job.write_map(path, maps)
        if job.overlay:  # read again: keeping the frames until now could take a lot of memory
            job.write_overlay(path, read_rgb(path), maps)
        return path, maps.density

    n_frames = len(job.pictures)
    with job.open_rows() as append, TERMINAL.bar(job.folder.name, "frame", n_frames) as bar:
        for path, density in in_threads(finish, found, workers, FRAMES_AHEAD):
            if append is not None and density is not None:
                append(density, path.name)
            bar.update()
    job.say_done(n_frames, job.video_place)


def predict_image_folder(engine: Engine, job: FolderJob, preset: Preset, domain: str) -> None:
    """Predict unrelated pictures, several at a time.

    Args:
        engine: runs the network.
        job: the pictures, and what to write for them.
        preset: how to predict them.
        domain: the network domain to use.

    Raises:
        SomeFailed: some pictures could not be read; all others are done.
    """

    def predict(path: Path) -> tuple[Path, UserError | None]:
        try:
            image = read_rgb_image(path)
        except UserError as error:
            return path, error
        size = image.height, image.width
        x = prepare(image, preset.input_size_for(size))
        y = engine.image_logits(x[None], domain, concurrent=True)[0].cpu().numpy()
        check_finite(y, f"the prediction for {path}")
        maps = job.maps_of(y, size, is_logits=True)
        job.write_map(path, maps)
        if job.overlay:
            job.write_overlay(path, np.asarray(image), maps)
        return path, None

    failed = []
    with TERMINAL.bar(job.folder.name, "image", len(job.pictures)) as bar:
        for path, error in in_threads(predict, job.pictures, engine.workers):
            bar.update()
            if error is not None:
                failed.append(path.name)
                log.error("%s", error)
    job.say_done(len(job.pictures) - len(failed), job.folder / MAPS)
    if failed:
        raise SomeFailed(
            f"{len(failed)} of {len(job.pictures)} pictures in {job.folder / IMAGES} could not be "
            f"predicted: {', '.join(failed)}"
        )


def find_pictures(folder: Path) -> list[Path]:
    """List the pictures in `<folder>/images`, in natural order.

    Raises:
        UserError: there are none; says what was expected and where.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist")
    images = folder / IMAGES
    if not images.is_dir():
        raise UserError(f"{folder} has no folder {IMAGES!r}; put the pictures into {images}")
    pictures = list_pictures(images)
    if not pictures:
        raise UserError(f"{images} holds no pictures (.png, .jpg, .jpeg)")
    return pictures


def has_pictures(folder: Path) -> bool:
    """Return whether `<folder>/images` holds a picture."""
    images = folder / IMAGES
    return images.is_dir() and bool(list_pictures(images))


def _visible_folders(folder: Path) -> list[Path]:
    """Return the subfolders that are not hidden, in natural order."""
    found = [f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")]
    return sorted(found, key=natural_order)
