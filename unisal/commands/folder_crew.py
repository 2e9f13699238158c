"""Pictures and videos of folders on many workers, or brought from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from unisal.cluster.workers import Done
from unisal.commands.crew import (
    PER_TASK,
    Team,
    say_failures,
)
from unisal.commands.folder_jobs import (
    FolderJob,
    State,
)
from unisal.commands.folder_work import (
    How,
    Recipe,
    Tally,
    bar_of,
    predict_pictures,
    predict_video_folder,
)
from unisal.commands.frames import check_frames
from unisal.commands.picture_folders import (
    Failure,
)
from unisal.commands.places import until_lost
from unisal.errors import PlaceLost, SomeFailed, UserError, cause
from unisal.files import remove_leftovers
from unisal.progress import SILENT
from unisal.remote.mirror import Courier, RoomBar
from unisal.types import Size

UNKNOWN = 0, 0
"""The size of a video's frames that are elsewhere."""


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
            bar_of(jobs, unfinished, sizes) as bar,
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
