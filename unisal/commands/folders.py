"""The commands `predictions_from_folder` and `predict_examples`: whole folders of pictures.

See docs/behaviour.md, "Commands and files".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from unisal.cluster.workers import Crew
from unisal.commands.crew import (
    courier_of,
    team,
    worker_device,
)
from unisal.commands.folder_crew import UNKNOWN, predict_jobs_on_workers, start_worker
from unisal.commands.folder_jobs import (
    READ_AHEAD,
    READERS,
    FolderJob,
    State,
    settings_key,
)
from unisal.commands.folder_work import (
    How,
    Recipe,
    Tally,
    bar_of,
    predict_image_folder,
    predict_video_folder,
)
from unisal.commands.frames import check_frames
from unisal.commands.picture_folders import (
    IMAGES,
    Failure,
    PictureSet,
    find_picture_set,
    find_picture_sets,
    visible_folders,
)
from unisal.commands.places import prepare_folder
from unisal.commands.progress import TERMINAL
from unisal.commands.verbose import say_facts
from unisal.config import examples_dir
from unisal.data.pictures import list_pictures
from unisal.errors import PlaceLost, SomeFailed, UserError
from unisal.inference.views import read_tta
from unisal.predict.facts import Facts
from unisal.predict.presets import (
    VIDEO_PRESET,
    default_preset,
    find_preset,
    is_video_preset,
    run_presets,
)
from unisal.predict.smooth import smoothing_window
from unisal.remote.mirror import Mirror
from unisal.threads import in_threads
from unisal.types import Size
from unisal.writing.formats import find_map_format

EXAMPLE_IMAGE_FOLDERS = ("SALICON", "MIT1003")
"""Folders of images in `examples/`; all others hold videos."""

PLACE_ADVICE = "name another folder with --out_dir"


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
    with bar_of(jobs, unfinished, sizes) as bar:
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
