"""The commands `predictions_from_folder` and `predict_examples`: whole folders of pictures.

See docs/behaviour.md, "Commands and files".
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.commands.folder_jobs import (
    READ_AHEAD,
    READERS,
    FolderJob,
    State,
    next_key,
    settings_key,
)
from unisal.commands.frames import FRAMES_AHEAD, check_frames, read_frames
from unisal.commands.picture_folders import (
    IMAGES,
    Failure,
    PictureSet,
    find_picture_set,
    find_picture_sets,
    visible_folders,
)
from unisal.commands.places import prepare_folder, until_lost
from unisal.commands.progress import TERMINAL
from unisal.commands.verbose import say_facts
from unisal.config import examples_dir
from unisal.data.pictures import list_pictures, read_rgb, read_rgb_image
from unisal.errors import PlaceLost, SomeFailed, UserError
from unisal.files import PlaceWatch, content_key
from unisal.inference.densities import check_finite
from unisal.inference.runtime import Frame
from unisal.inference.views import read_tta
from unisal.predict import Predictor, load
from unisal.predict.facts import Facts
from unisal.predict.inputs import prepare
from unisal.predict.presets import (
    VIDEO_PRESET,
    default_preset,
    find_preset,
    is_video_preset,
    run_presets,
)
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.progress import Bar
from unisal.threads import in_threads
from unisal.types import Density, Size
from unisal.writing.formats import find_map_format

EXAMPLE_IMAGE_FOLDERS = ("SALICON", "MIT1003")
"""Folders of images in `examples/`; all others hold videos."""

PLACE_ADVICE = "name another folder with --out_dir"

log = logging.getLogger(__name__)


def predict_folders(
    *,
    folders: Sequence[Path],
    is_video: bool,
    source: str | None,
    train_id: str | None,
    model_domain: str | None,
    overlay: bool,
    maps: str | None,
    smooth_method: str | None,
    out_dir: Path | None,
    recursive: bool,
    overwrite: bool,
    device: str,
    verbose: bool,
    tta: str | None,
    precision: str,
) -> None:
    """Predict the pictures of folders into `saliency/` (and `overlay/`) in them.

    Pictures whose files are finished are left out: those that were made of the same pictures, with
    the same weights and options. A video is finished as a whole or not at all.

    Args:
        folders: folders of pictures, or pictures, see `find_picture_sets`.
        is_video: whether the pictures of a folder are the frames of one video, in natural order.
        source: the name of the preset, see `unisal.predict.presets`; None for the run's
            default for images, or that for videos.
        train_id: the run whose weights to use.
        model_domain: the network domain to use; by default the preset's.
        overlay: whether to write the pictures with their maps overlaid as well.
        maps: a key of `unisal.writing.formats.MAP_FORMATS`; None for grey pictures with the names
            of the pictures, and the formats of those that are PNG or JPEG.
        smooth_method: see `Predictor.video`.
        out_dir: takes the place of the folder for what is written.
        recursive: whether to predict the folders below them too, each by itself.
        overwrite: whether to predict what is finished again.
        device: where to run.
        verbose: whether to print with what they are predicted.
        tta: see `unisal.inference.engine.Engine`.
        precision: see `unisal.predict.Predictor`.

    Raises:
        UserError: there are no pictures, the only video's frames differ in size or one of them
            cannot be read, or an option is wrong; nothing was done. The only video also ends at a
            frame that turns out to be damaged when it is read.
        SomeFailed: some images or videos could not be read; all others are done.
    """
    source = source or default_preset(train_id, is_video)
    preset = find_preset(source, for_images=not is_video, own=run_presets(train_id))
    smoothing_window(smooth_method)  # a mistake is found before the files are looked at
    read_tta(tta)
    if smooth_method is not None and not is_video:
        raise UserError("smooth_method is for videos only; it needs is_video=True")
    if maps is not None:
        find_map_format(maps)
    if out_dir is not None:
        prepare_folder(out_dir, PLACE_ADVICE)
    sets, failed = find_picture_sets(folders, recursive, out_dir)
    n_folders = len(sets) + len(failed)
    sizes: dict[Path, Size] = {}
    if is_video:
        sizes, faulty = check_videos(sets)
        failed += faulty
    settings = settings_key(
        train_id=train_id,
        source=source,
        model_domain=model_domain,
        is_video=is_video,
        smooth_method=smooth_method,
        maps=maps,
        tta=tta,
        precision=precision,
    )
    left = [found for found in sets if not is_video or found.source in sizes]
    jobs = [FolderJob(found, overlay, maps, settings) for found in left]
    check_places(jobs)
    unfinished = find_unfinished(jobs, is_video, overwrite)
    if any(unfinished):
        predictor = load(train_id, device, preset.fine_tuned, precision, tta=tta)
        domain = predictor.engine.domain(model_domain or preset.domain)
        how = How(predictor, source, domain, smooth_method)
        facts = how.facts(is_video)  # says before any work that there is no graph in 8 bits
        if verbose:
            say_facts(kind_of(is_video), facts)
        failed += predict_jobs(how, jobs, unfinished, sizes)
    raise_failures(failed, n_folders)


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


def kind_of(is_video: bool) -> str:
    """Return what pictures are called in a line about them."""
    return "frames of videos" if is_video else "pictures"


class ExampleFolder(NamedTuple):
    """A folder with pictures in `images/`, and the name of the preset to predict them with."""

    folder: Path
    preset: str
    is_video: bool


def predict_examples(
    *,
    train_id: str | None,
    folder: Path | None,
    overlay: bool,
    device: str,
    verbose: bool,
    tta: str | None,
) -> None:
    """Predict every folder of images and every video below a folder.

    Args:
        train_id: the run whose weights to use.
        folder: see `find_examples`; None for `examples/`.
        overlay: whether to write the pictures with their maps overlaid as well.
        device: where to run.
        verbose: whether to print with what each kind is predicted.
        tta: see `unisal.inference.engine.Engine`.

    Raises:
        UserError: there is nothing to predict.
        SomeFailed: some images could not be read, or a video could not be predicted; all others
            are done.
    """
    read_tta(tta)
    folder = folder or examples_dir()
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist")
    examples = find_examples(folder)
    if not examples:
        names = " or ".join(f"{name}/{IMAGES}" for name in EXAMPLE_IMAGE_FOLDERS)
        raise UserError(
            f"{folder} holds no pictures; expected {names}, or {VIDEO_PRESET}/VIDEO/{IMAGES}"
        )
    failed: list[Failure] = []
    said: set[Facts] | None = set() if verbose else None
    for example in examples:
        failed += predict_example(example, train_id, overlay, device, said, tta)
    raise_failures(failed, len(failed) + 1)


def find_examples(folder: Path) -> list[ExampleFolder]:
    """Find the folders of pictures below a folder, without hidden ones.

    Args:
        folder: its subfolders `SALICON` and `MIT1003` are folders of images; every other one holds
            a folder per video.
    """
    found = []
    for inside in visible_folders(folder):
        if inside.name in EXAMPLE_IMAGE_FOLDERS:
            found.append(ExampleFolder(inside, inside.name, is_video=False))
        else:
            preset = inside.name if is_video_preset(inside.name) else VIDEO_PRESET
            found += [ExampleFolder(v, preset, is_video=True) for v in visible_folders(inside)]
    return [example for example in found if has_pictures(example.folder)]


def has_pictures(folder: Path) -> bool:
    """Return whether `<folder>/images` holds a picture."""
    images = folder / IMAGES
    return images.is_dir() and bool(list_pictures(images))


def predict_example(
    example: ExampleFolder,
    train_id: str | None,
    overlay: bool,
    device: str,
    said: set[Facts] | None,
    tta: str | None,
) -> list[Failure]:
    """Predict one folder of examples.

    Args:
        example: the folder.
        train_id: see `predict_examples`.
        overlay: see `predict_examples`.
        device: see `predict_examples`.
        said: the facts that were printed before, to which its own are added; None to print none.
        tta: see `predict_examples`.

    Returns:
        What failed.
    """
    found, preset = find_picture_set(example.folder, example.folder), find_preset(example.preset)
    settings = settings_key(
        train_id=train_id,
        source=example.preset,
        model_domain=None,
        is_video=example.is_video,
        smooth_method=None,
        maps=None,
        tta=tta,
    )
    predictor = load(train_id, device, preset.fine_tuned, tta=tta)
    how = How(predictor, example.preset, predictor.engine.domain(preset.domain))
    facts = how.facts(example.is_video)
    if said is not None and facts not in said:
        said.add(facts)
        say_facts(kind_of(example.is_video), facts)
    sizes: dict[Path, Size] = {}
    if example.is_video:
        try:
            sizes[found.source] = check_frames(found.pictures)
        except UserError as error:
            return [Failure(example.folder, error, is_video=True)]
    job = FolderJob(found, overlay, None, settings)
    check_places([job])
    return predict_jobs(how, [job], [job.pictures], sizes)


def check_videos(sets: Sequence[PictureSet]) -> tuple[dict[Path, Size], list[Failure]]:
    """Check from the headers alone that each video's frames are pictures of one size.

    Returns:
        The (height, width) of each video by the folder of its frames, and those that are faulty.
    """
    sizes, failed = {}, []
    for found in sets:
        try:
            sizes[found.source] = check_frames(found.pictures)
        except UserError as error:
            failed.append(Failure(found.place, error, is_video=True))
    if failed and len(sets) == 1:
        raise failed[0].error
    return sizes, failed


def find_unfinished(jobs: Sequence[FolderJob], is_video: bool, overwrite: bool) -> list[list[Path]]:
    """Return the pictures of each folder that are not finished, and say how many are.

    Args:
        jobs: what is to be written.
        is_video: whether the pictures of each are a video, which is finished as a whole.
        overwrite: whether to count nothing as finished.
    """
    if overwrite:
        return [job.pictures for job in jobs]
    unfinished, n_states = [], Counter[State]()
    n_pictures = sum(len(job.pictures) for job in jobs)
    with TERMINAL.bar("finished before", "picture", n_pictures, keep=False) as bar:
        for job in jobs:
            if is_video:
                states = [job.video_state()] * len(job.pictures)
                bar.update(len(job.pictures))
            else:
                states = []
                for state in in_threads(job.picture_state, job.pictures, READERS, READ_AHEAD):
                    states.append(state)
                    bar.update()
            n_states.update(states)
            pairs = zip(job.pictures, states, strict=True)
            unfinished.append([p for p, state in pairs if state is not State.FINISHED])
    if n_states[State.OTHER]:
        print(
            f"{n_states[State.OTHER]} are there, but not known to be made of these pictures in "
            "this way, and are predicted again"
        )
    if n_states[State.FINISHED]:
        n = n_states[State.FINISHED]
        print(f"{n} finished before and skipped; --overwrite=True predicts them again")
    return unfinished


def predict_jobs(
    how: How,
    jobs: Sequence[FolderJob],
    unfinished: Sequence[list[Path]],
    sizes: Mapping[Path, Size],
) -> list[Failure]:
    """Predict the pictures of folders, and print what was written.

    Args:
        how: how to predict.
        jobs: what is to be written.
        unfinished: the pictures of each that are to be predicted.
        sizes: the (height, width) of those that are videos, by the folder of their frames.

    Returns:
        What failed.
    """
    failed, said = [], []
    n_all, n_todo = (sum(map(len, some)) for some in ([j.pictures for j in jobs], unfinished))
    unit = "frame" if sizes else "image"
    with TERMINAL.bar(jobs[0].found.name, unit, n_all, n_all - n_todo) as bar:
        for job, pictures in zip(jobs, unfinished, strict=True):
            if len(jobs) > 1:
                bar.describe(job.found.name)
            if not pictures:
                continue
            try:
                if job.found.source in sizes:
                    predict_video_folder(how, job, sizes[job.found.source], bar)
                    said.append((job, len(pictures), job.video_place))
                    continue
                bad = predict_image_folder(how, job, pictures, bar)
                said.append((job, len(pictures) - len(bad), job.maps_folder))
                if bad:
                    raise SomeFailed(
                        f"{len(bad)} of {len(job.pictures)} pictures in {job.found.source} could "
                        f"not be predicted: {', '.join(bad)}"
                    )
            except (UserError, SomeFailed) as error:
                is_video = isinstance(error, UserError)
                failed.append(Failure(job.found.place, error, is_video))
                if isinstance(error, PlaceLost):  # it would be the same for the next ones
                    break
    for job, n_done, place in said:
        job.say_done(n_done, place)
    return failed


def raise_failures(failed: Sequence[Failure], n_folders: int) -> None:
    """Raise an error that names what failed; the only video's own error if there is no other.

    Raises:
        UserError: the only folder is a video that cannot be predicted.
        SomeFailed: some of the pictures or videos cannot.
    """
    if not failed:
        return
    if n_folders == 1:
        raise failed[0].error
    raise SomeFailed("; ".join(map(str, failed)))


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
    done = lambda: _said_done(job, 0 if job.holds_densities else n_done)  # noqa: E731
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


def predict_image_folder(how: How, job: FolderJob, pictures: Sequence[Path], bar: Bar) -> list[str]:
    """Predict unrelated pictures, several at a time.

    Args:
        how: how to predict.
        job: what to write for them.
        pictures: those that are not finished.
        bar: counts the pictures.

    Returns:
        The names of those that could not be read, which were reported; all others are done.

    Raises:
        PlaceLost: nothing can be written any more.
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

    failed: list[str] = []
    watch, n_done = PlaceWatch(), len(job.pictures) - len(pictures)
    with until_lost(job.maps_folder, lambda: _said_done(job, n_done)):
        for path, error in in_threads(predict, pictures, engine.workers):
            bar.update()
            if error is None:
                n_done += 1
            else:
                failed.append(path.name)
                unread = isinstance(error, UserError)
                log.error("%s", error if unread else f"{path}: no map can be written: {error}")
            unwritten = error if isinstance(error, OSError) else None
            if watch.is_lost(job.maps_folder, unwritten) and unwritten is not None:
                raise unwritten
    return failed


def check_places(jobs: Sequence[FolderJob]) -> None:
    """Check that maps and overlays can be written, and remove what a killed process left there.

    Raises:
        UserError: a folder cannot be written to.
    """
    for job in jobs:
        for folder in (job.maps_folder, *([job.overlays_folder] if job.overlay else [])):
            prepare_folder(folder, PLACE_ADVICE)


def _said_done(job: FolderJob, n_done: int) -> str:
    """Say how many pictures of a folder are done."""
    return f"{n_done} of {len(job.pictures)} pictures in {job.found.source}"
