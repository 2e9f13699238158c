"""Predicting whole folders of pictures and videos (spec 05, `predictions_from_folder`,
`predict_examples`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from unisal.config import examples_dir
from unisal.data.pictures import displayed_size, list_pictures, read_rgb, read_rgb_image
from unisal.data.transforms import optimal_input_size
from unisal.errors import SomeFailed, UserError
from unisal.inference.densities import check_finite, saliency_map, to_density
from unisal.predict import Predictor, load
from unisal.predict.inputs import prepare
from unisal.predict.presets import IMAGE_PRESET, VIDEO_PRESET, find_preset, is_video_preset
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.threads import in_threads
from unisal.visualize.overlay import draw_overlay
from unisal.writing.maps import write_map, write_overlay

EXAMPLE_IMAGE_FOLDERS = ("SALICON", "MIT1003")
IMAGES, MAPS, OVERLAYS = "images", "saliency", "overlay"
READ_AHEAD = 4
"""Frames of a video that are read before the network wants them, and maps that wait for writing."""

log = logging.getLogger(__name__)


def predict_folder(
    folder: Path,
    is_video: bool = False,
    source: str | None = None,
    train_id: str | None = None,
    model_domain: str | None = None,
    overlay: bool = False,
    smooth_method: str | None = None,
    device: str = "auto",
) -> None:
    """Predict `<folder>/images/*` into `<folder>/saliency/` (and `<folder>/overlay/`).

    Args:
        folder: holds pictures, or with `is_video` the frames of one video, in sorted order.
        is_video: the pictures are one video.
        source: what the pictures are most like, see `unisal.predict.presets`.
        train_id: the run whose weights to use.
        model_domain: whose modules of the network to use, by default those for the source.
        overlay: also write the pictures with their maps over them.
        smooth_method: see `Predictor.video`.
        device: where to run.

    Raises:
        UserError: the folder has no pictures, a video's frames differ in size or one cannot be
            read, or an option is wrong; nothing was done. A frame that proves to be damaged when
            its turn has come ends a video there.
        SomeFailed: some images could not be read; all others are done.
    """
    source = source or (VIDEO_PRESET if is_video else IMAGE_PRESET)
    kind = find_preset(source, for_images=not is_video)
    smoothing_window(smooth_method)  # a mistake is found before the files are looked at
    if smooth_method is not None and not is_video:
        raise UserError("smooth_method is for videos alone; it needs is_video=True")
    pictures = find_pictures(folder)
    if is_video:
        check_frames(pictures)
    predictor = load(train_id, device, kind.fine_tuned)
    if is_video:
        predict_video(predictor, pictures, folder, source, model_domain, overlay, smooth_method)
    else:
        predict_pictures(predictor, pictures, folder, model_domain or kind.domain, overlay)


class Example(NamedTuple):
    """A folder with pictures in `images/`."""

    folder: Path
    source: str
    is_video: bool


def predict_examples(
    train_id: str | None = None,
    folder: Path | None = None,
    overlay: bool = True,
    device: str = "auto",
) -> None:
    """Predict every folder of images and every video under `folder` (default `examples/`).

    Raises:
        UserError: there is nothing to predict.
        SomeFailed: as `predict_folder`; also videos that cannot be predicted.
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
        predictor = load(train_id, device, find_preset(example.source).fine_tuned)
        try:
            predict_example(predictor, example, overlay)
        except SomeFailed as error:
            failed.append(str(error))
    if failed:
        raise SomeFailed("; ".join(failed))


def find_examples(folder: Path) -> list[Example]:
    """-> the folders with pictures below `folder`: `SALICON` and `MIT1003` are images, every
    other one holds a folder per video. Hidden ones are left out."""
    found = []
    for inside in _visible_folders(folder):
        if inside.name in EXAMPLE_IMAGE_FOLDERS:
            found.append(Example(inside, inside.name, is_video=False))
        else:
            known = is_video_preset(inside.name)
            source = inside.name if known else VIDEO_PRESET
            found += [Example(v, source, is_video=True) for v in _visible_folders(inside)]
    return [example for example in found if has_pictures(example.folder)]


def predict_example(predictor: Predictor, example: Example, overlay: bool) -> None:
    """Predict one example.

    Raises:
        SomeFailed: some of its images, or its video, could not be predicted.
    """
    folder, source, is_video = example
    pictures = find_pictures(folder)
    if not is_video:
        predict_pictures(predictor, pictures, folder, find_preset(source).domain, overlay)
        return
    try:
        check_frames(pictures)
        predict_video(predictor, pictures, folder, source, overlay=overlay)
    except UserError as error:
        raise SomeFailed(f"video {folder}: {error}") from None


def predict_video(
    predictor: Predictor,
    frames: Sequence[Path],
    folder: Path,
    source: str,
    domain: str | None = None,
    overlay: bool = False,
    smooth_method: str | None = None,
) -> None:
    """Predict the frames of one video into `folder`.

    Raises:
        UserError: a frame is damaged or of another size; those before it may be done.
    """
    kind, window, engine = find_preset(source), smoothing_window(smooth_method), predictor.engine
    domain = engine.domain(domain or kind.domain)
    size = displayed_size(frames[0])
    inputs = _read_inputs(frames, size, kind.input_size_for(size), engine.video_workers)
    found: Iterator[tuple[Path, NDArray[np.float32]]]
    if window == 1:  # of a picture's size only when it is written: that saves time and memory
        logits = engine.video_logits(inputs, domain, kind.frame_step)
        found = ((path, y.cpu().numpy()) for path, y in logits)
    else:
        predictions = predictor.log_densities(inputs, size, domain, kind.frame_step)
        found = median_over_time(((p.key, p.log_density) for p in predictions), window)

    def write(result: tuple[Path, NDArray[np.float32]]) -> None:
        path, y = result
        check_finite(y, f"the prediction for {path}")
        density = saliency_map(y, size) if window == 1 else to_density(y)
        write_map(folder / MAPS / path.name, density)
        if overlay:  # read again: to keep the frames until now might take much memory
            write_overlay(folder / OVERLAYS / path.name, draw_overlay(read_rgb(path), density))

    with tqdm(total=len(frames), desc=folder.name, unit="frame", disable=None) as bar:
        for _ in in_threads(write, found, engine.video_workers, READ_AHEAD):
            bar.update()
    _say_done(folder, len(frames), overlay)


def _read_inputs(
    frames: Sequence[Path], size: tuple[int, int], input_size: tuple[int, int], workers: int
) -> Iterator[tuple[Path, Tensor]]:
    """Read a video's frames for the network, a few in advance in threads of their own."""

    def read(path: Path) -> tuple[Path, Tensor]:
        image = read_rgb_image(path)
        if (image.height, image.width) != size:
            raise UserError(f"{path} has another size than its header says")
        return path, prepare(image, input_size)

    return in_threads(read, frames, workers, READ_AHEAD)


def read_ahead(paths: Iterable[Path]) -> Iterator[NDArray[np.uint8]]:
    """Read pictures in order, a few of them in advance in threads of their own."""
    return in_threads(read_rgb, paths, workers=2, ahead=READ_AHEAD)


def check_frames(frames: Sequence[Path]) -> None:
    """Look at the headers of a video's frames.

    Raises:
        UserError: one is no picture, or has another size than the first one; names it.
    """
    first = displayed_size(frames[0])
    for path in frames[1:]:
        if (size := displayed_size(path)) != first:
            raise UserError(
                f"{path} is {size[0]} x {size[1]} pixels, the first frame {frames[0].name} "
                f"{first[0]} x {first[1]} (height x width); all of a video have to be alike"
            )


def predict_pictures(
    predictor: Predictor, pictures: list[Path], folder: Path, domain: str, overlay: bool
) -> None:
    """Predict pictures into `folder`, in several threads from file to file; a picture that fails
    does not stop the others."""
    engine = predictor.engine
    domain = engine.domain(domain)

    def predict(path: Path) -> UserError | None:
        try:
            image = read_rgb_image(path)
        except UserError as error:
            return error
        size = image.height, image.width
        x = prepare(image, optimal_input_size(size))
        y = engine.image_logits(x[None], domain, concurrent=True)[0].cpu().numpy()
        check_finite(y, f"the prediction for {path}")
        density = saliency_map(y, size)
        write_map(folder / MAPS / path.name, density)
        if overlay:
            overlaid = draw_overlay(np.asarray(image), density)
            write_overlay(folder / OVERLAYS / path.name, overlaid)
        return None

    failed = []
    bar = tqdm(pictures, desc=folder.name, unit="image", disable=None)
    for path, error in zip(bar, in_threads(predict, pictures, engine.workers), strict=True):
        if error is not None:
            failed.append(path.name)
            log.error("%s", error)
    _say_done(folder, len(pictures) - len(failed), overlay)
    if failed:
        raise SomeFailed(
            f"{len(failed)} of {len(pictures)} pictures in {folder / IMAGES} could not be "
            f"predicted: {', '.join(failed)}"
        )


def find_pictures(folder: Path) -> list[Path]:
    """-> the pictures in `<folder>/images`.

    Raises:
        UserError: there are none; says what was expected where.
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
    """Whether `<folder>/images` holds a picture."""
    images = folder / IMAGES
    return images.is_dir() and bool(list_pictures(images))


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _say_done(folder: Path, n_maps: int, overlay: bool) -> None:
    also = f", overlays in {folder / OVERLAYS}" if overlay else ""
    print(f"{n_maps} saliency maps in {folder / MAPS}{also}")
