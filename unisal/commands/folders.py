"""The commands `predictions_from_folder` and `predict_examples`: whole folders of pictures.

See docs/behaviour.md, "Commands and files".
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.cluster.workers import Crew, Done
from unisal.commands.crew import (
    PER_TASK,
    Team,
    courier_of,
    say_failures,
    team,
    worker_device,
)
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
from unisal.errors import PlaceLost, SomeFailed, UserError, cause
from unisal.files import PlaceWatch, content_key, remove_leftovers
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
from unisal.progress import SILENT, Bar
from unisal.remote.mirror import Courier, Mirror, RoomBar
from unisal.threads import in_threads
from unisal.types import Density, Size
from unisal.writing.formats import find_map_format

EXAMPLE_IMAGE_FOLDERS = ("SALICON", "MIT1003")
"""Folders of images in `examples/`; all others hold videos."""

UNKNOWN = 0, 0
"""The size of a video's frames that are elsewhere."""

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
    crew: Crew,
    mirror: Mirror | None = None,
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
        crew: the workers that predict, if there are to be any.
        mirror: holds what stands for folders and `out_dir`, if some of them lie elsewhere.

    Raises:
        UserError: there are no pictures, the only video's frames differ in size or one of them
            cannot be read, or an option is wrong; nothing was done. The only video also ends at a
            frame that turns out to be damaged when it is read.
        SomeFailed: some images or videos could not be read; all others are done.
    """
    source = source or default_preset(train_id, is_video)
    find_preset(source, for_images=not is_video, own=run_presets(train_id))
    smoothing_window(smooth_method)  # mistakes are found before the files are looked at
    read_tta(tta)
    if smooth_method is not None and not is_video:
        raise UserError("smooth_method is for videos only; it needs is_video=True")
    if maps is not None:
        find_map_format(maps)
    device = worker_device(device, crew)
    if out_dir is not None:
        prepare_folder(out_dir, PLACE_ADVICE)
    sets, failed = find_picture_sets(folders, recursive, out_dir)
    n_folders = len(sets) + len(failed)
    sizes: dict[Path, Size] = {}
    if is_video and mirror is not None:  # looked into when they are here
        sizes = dict.fromkeys((found.source for found in sets), UNKNOWN)
    elif is_video:
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
    check_places(jobs, mirror)
    is_here = mirror is None
    unfinished = find_unfinished(jobs, is_video, overwrite or not is_here)
    if any(unfinished):
        recipe = Recipe(train_id, source, device, precision, tta, model_domain, smooth_method)
        how = recipe.how(is_video)
        facts = how.facts(is_video)  # says before any work that there is no graph in 8 bits
        if verbose:
            say_facts(kind_of(is_video), facts)
        if crew.is_wanted or mirror is not None:
            how.predictor.engine.warm_up(how.domain, is_video)
            courier = courier_of(mirror, crew)
            start = partial(start_worker, recipe, jobs, sizes, courier, overwrite)
            with team(crew, courier) as workers:
                failed += predict_jobs_on_workers(workers, start, jobs, unfinished, sizes)
        else:
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
    found = find_picture_set(example.folder, example.folder)
    settings = settings_key(
        train_id=train_id,
        source=example.preset,
        model_domain=None,
        is_video=example.is_video,
        smooth_method=None,
        maps=None,
        tta=tta,
    )
    how = Recipe(train_id, example.preset, device, tta=tta).how(example.is_video)
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
    failed: list[Failure] = []
    with _bar(jobs, unfinished, sizes) as bar:
        tallies = [Tally(*each, bar) for each in zip(jobs, unfinished, strict=True)]
        for tally in tallies:
            if len(jobs) > 1:
                bar.describe(tally.job.found.name)
            if not tally.todo:
                continue
            try:
                if size := sizes.get(tally.job.found.source):
                    predict_video_folder(how, tally.job, size, bar)
                    tally.n_done = len(tally.todo)
                else:
                    predict_image_folder(how, tally)
                    failed += tally.failures()
            except (UserError, SomeFailed) as error:
                failed.append(Failure(tally.job.found.place, error, isinstance(error, UserError)))
                if isinstance(error, PlaceLost):  # it would be the same for the next ones
                    break
    for tally in tallies:
        tally.say_done(sizes)
    return failed


def _bar(
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
        return _said_done(self.job, n_before + self.n_done)

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


class Todo(NamedTuple):
    """What a worker does at a time."""

    job: int
    """The place of the folder among all."""
    pictures: tuple[Path, ...]
    """Some of its pictures; all of them if they are a video."""
    is_video: bool = False


def start_worker(
    recipe: Recipe,
    jobs: Sequence[FolderJob],
    sizes: Mapping[Path, Size],
    courier: Courier | None = None,
    overwrite: bool = False,
) -> Callable[[Todo], list[Exception | None]]:
    """Load the network in a worker; see `predict_jobs`.

    Args:
        recipe: how to predict.
        jobs: what is to be written.
        sizes: as in `predict_jobs`; `UNKNOWN` for those that are elsewhere.
        courier: brings the pictures and takes away what is written, if they are elsewhere.
        overwrite: whether to predict again what is finished elsewhere.

    Returns:
        A function that predicts pictures, and returns why each failed, None where it did not. It
        raises what `predict_video_folder` raises.
    """
    how = recipe.how(bool(sizes))

    def do(todo: Todo) -> list[Exception | None]:
        job = jobs[todo.job]
        if size := sizes.get(job.found.source):
            with SILENT.bar("", "frame") as bar:
                predict_video_folder(how, job, size, bar)
            return [None] * len(todo.pictures)
        return [error for _, error in predict_pictures(how, job, todo.pictures)]

    if courier is None:
        return do
    return partial(do_elsewhere, how, jobs, courier, overwrite)


def do_elsewhere(
    how: How, jobs: Sequence[FolderJob], courier: Courier, overwrite: bool, todo: Todo
) -> list[Exception | None]:
    """Predict pictures, or a video, that are brought for it; what is finished is left alone.

    Returns:
        Why each picture failed, None where it did not.
    """
    job = jobs[todo.job]
    outputs = dict.fromkeys(path for picture in todo.pictures for path in job.outputs(picture))
    with courier.carried(todo.pictures, list(outputs), with_outputs=not overwrite) as load:
        if todo.is_video:
            if load.failed:
                raise next(iter(load.failed.values()))
            if job.video_state() is not State.FINISHED:
                predict_video_folder(how, job, check_frames(job.pictures), RoomBar(load))
            return [None] * len(todo.pictures)
        here = [path for path in todo.pictures if path not in load.failed]
        unfinished = [path for path in here if job.picture_state(path) is not State.FINISHED]
        errors: dict[Path, Exception | None] = {**load.failed}
        errors |= dict(predict_pictures(how, job, unfinished))
    return [errors.get(path) for path in todo.pictures]


def predict_jobs_on_workers(
    workers: Team,
    start: Callable[[], Callable[[Todo], list[Exception | None]]],
    jobs: Sequence[FolderJob],
    unfinished: Sequence[list[Path]],
    sizes: Mapping[Path, Size],
) -> list[Failure]:
    """Predict the pictures of folders on workers, a few at a time, and each video on one of them.

    Args:
        workers: who predicts.
        start: see `start_worker`.
        jobs: as in `predict_jobs`, and so are the others.
        unfinished: the pictures of each that are to be predicted.
        sizes: those that are videos.

    Returns:
        What failed, which was also told in a table.
    """
    told: list[tuple[Path, Exception]] = []
    failed: list[Failure] = []
    tell = lambda path, error: told.append((path, error))  # noqa: E731
    try:
        with (
            _bar(jobs, unfinished, sizes) as bar,
            closing(workers.do(start, _todos(jobs, unfinished, sizes), _parts_of)) as all_done,
        ):
            tallies = [Tally(*each, bar, tell) for each in zip(jobs, unfinished, strict=True)]
            for done in all_done:
                tally = tallies[done.task.job]
                try:
                    failed += _counted(done, tally, sizes)
                except PlaceLost as error:  # it would be the same for the next ones
                    failed.append(Failure(tally.job.found.place, error))
                    break
    finally:  # of workers that were killed
        for folder in {each for job in jobs for each in (job.maps_folder, job.overlays_folder)}:
            remove_leftovers(folder)
    say_failures(told)
    for tally in tallies:
        failed += tally.failures()
        tally.say_done(sizes)
    return failed


def _todos(
    jobs: Sequence[FolderJob], unfinished: Sequence[list[Path]], sizes: Mapping[Path, Size]
) -> list[Todo]:
    """Divide the work: videos as they are, other pictures a few at a time."""
    todos = []
    for i, (job, pictures) in enumerate(zip(jobs, unfinished, strict=True)):
        is_video = job.found.source in sizes
        step = max(1, len(pictures)) if is_video else PER_TASK
        parts = [tuple(pictures[k : k + step]) for k in range(0, len(pictures), step)]
        todos += [Todo(i, part, is_video) for part in parts]
    return todos


def _parts_of(todo: Todo) -> list[Todo]:
    """Divide a task into its pictures; a video is a whole."""
    return [] if todo.is_video else [Todo(todo.job, (path,)) for path in todo.pictures]


def _counted(
    done: Done[Todo, list[Exception | None]], tally: Tally, sizes: Mapping[Path, Size]
) -> list[Failure]:
    """Count what became of a task.

    Returns:
        Why the video failed, if it is one and did.

    Raises:
        PlaceLost: nothing can be written any more.
    """
    error, is_video = done.error, tally.job.found.source in sizes
    if isinstance(error, PlaceLost):
        raise error
    if not is_video:
        with until_lost(tally.job.maps_folder, tally.said):
            errors = [error] * len(done.task.pictures) if done.result is None else done.result
            for path, why in zip(done.task.pictures, errors, strict=True):
                tally.count(path, why)
    elif error is None:
        tally.count_video()
    else:
        tally.tell(tally.job.found.place, error)
        known = error if isinstance(error, UserError | SomeFailed) else SomeFailed(cause(error))
        return [Failure(tally.job.found.place, known, is_video=True)]
    return []


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


def check_places(jobs: Sequence[FolderJob], mirror: Mirror | None = None) -> None:
    """Check that maps and overlays can be written, and remove what a killed process left there.

    Raises:
        UserError: a folder cannot be written to.
    """
    for job in jobs:
        for folder in (job.maps_folder, *([job.overlays_folder] if job.overlay else [])):
            prepare_folder(folder, PLACE_ADVICE)
            if mirror is not None:
                mirror.check_writable(folder)


def _said_done(job: FolderJob, n_done: int) -> str:
    """Say how many pictures of a folder are done."""
    return f"{n_done} of {len(job.pictures)} pictures in {job.found.source}"
