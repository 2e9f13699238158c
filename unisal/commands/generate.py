"""The command `generate_predictions`: maps of whole data sets, to be submitted or compared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from functools import cache, partial
from typing import NamedTuple

from unisal.checks import check_count
from unisal.cluster.workers import ONE_PROCESS, Crew, connected, with_parts
from unisal.commands.crew import Indices, batches, say_failures, worker_device
from unisal.commands.places import until_lost
from unisal.commands.prediction_jobs import (
    Job,
    check_place,
    choose_datasets,
    open_dataset,
    plan_job,
    raw_path,
    refuse_other_predictions,
    remove_predictions,
)
from unisal.commands.progress import TERMINAL
from unisal.commands.verbose import say_facts
from unisal.config import run_dir, save_json
from unisal.data.inspection import quick_check
from unisal.device import find_device
from unisal.errors import PlaceLost, SomeFailed, UserError
from unisal.files import remove_leftovers
from unisal.inference.densities import to_density, to_saliency_map
from unisal.inference.engine import Engine
from unisal.inference.views import read_tta
from unisal.predict.datasets import FrameKey, predict_dataset
from unisal.predict.facts import Facts
from unisal.predict.loading import load_network
from unisal.predict.presets import source_domain
from unisal.predict.smooth import smoothing_window
from unisal.threads import in_threads
from unisal.types import LogDensity
from unisal.writing.maps import write_density, write_map

WRITERS = 2
"""Number of threads that write maps."""

log = logging.getLogger(__name__)


def generate_predictions(
    *,
    train_id: str | None,
    sources: Sequence[str],
    phase: str | None,
    model_domain: str | None,
    smooth_method: str | None,
    x_val_step: int | None,
    overwrite: bool,
    device: str,
    verbose: bool = False,
    tta: str | None = None,
    crew: Crew = ONE_PROCESS,
) -> None:
    """Write the saliency maps of whole data sets to `$PRED_DIR/<train_id>/<source>/`.

    A video or image whose files all exist is not predicted again. Beside the folder of each source
    a `.json` file says what its maps were made with; maps made with anything else are never mixed
    in.

    Args:
        train_id: the run whose weights to use; None for the one that ships with the program.
        sources: the data sets; none for all of them, or all that have the `phase`.
        phase: "test", or "eval" for the validation part; None for each data set's default.
        model_domain: the network domain to use, instead of the source's own.
        smooth_method: for videos, see `Predictor.video`.
        x_val_step: the fold of MIT1003, also in the name of MIT300's folder; None for the fold of
            the run's fine-tuning, or 0.
        overwrite: whether to remove existing predictions first.
        device: where to run the network.
        verbose: whether to print with what each data set is predicted.
        tta: see `unisal.inference.engine.Engine`.
        crew: the workers that predict, if there are to be any.

    Raises:
        UserError: an option is wrong, data is missing or faulty, or existing predictions were made
            with something else; nothing was written.
        SomeFailed: some videos or images could not be predicted; all others are finished, or
            those before the disk was full.
    """
    run = run_dir(train_id)
    if x_val_step is not None:
        check_count(x_val_step, "x_val_step", smallest=0)
    smoothing_window(smooth_method)
    read_tta(tta)
    device = worker_device(device, crew)
    find_device(device)

    @cache
    def engine(fine_tuned: bool) -> Engine:
        return Engine(load_network(train_id, fine_tuned), device, tta=tta)

    jobs = []
    for kind in choose_datasets(sources, phase):
        dataset = open_dataset(kind, run, phase, x_val_step)
        wanted = model_domain or source_domain(train_id, dataset)
        domain = engine(dataset.fine_tuned).domain(wanted)
        jobs.append(plan_job(dataset, run, x_val_step, domain, smooth_method, tta))
    quick_check(job.dataset for job in jobs)
    for job in jobs:
        check_place(job)
        refuse_other_predictions(job, overwrite)
    failed = []
    with ExitStack() as stack:
        for job in jobs:
            if overwrite:
                remove_predictions(job)
            network = engine(job.dataset.fine_tuned)
            if verbose:
                say_facts(job.dataset.source, Facts.of(network, job.weights, None, job.domain))
            left = job.find_unfinished()
            if crew.is_wanted and left:  # the workers' cluster stays until all data sets are done
                stack.enter_context(connected(crew))
            start = partial(start_worker, train_id, device, tta, job)
            failed += _predict(job, left, network, crew, start)
    if failed:
        raise SomeFailed(f"{len(failed)} could not be predicted: {', '.join(failed)}")


def _predict(job: Job, left: Sequence[int], engine: Engine, crew: Crew, start: Start) -> list[str]:
    """Predict what is left; return the names of the videos or images that failed."""
    dataset = job.dataset
    n_frames, n_left = sum(job.lengths), sum(job.lengths[index] for index in left)
    unit = "frame" if dataset.is_video else "image"
    before = f", {n_frames - n_left} of them done before" if n_left < n_frames else ""
    print(
        f"{dataset.source}, phase {dataset.phase}: {n_frames} {unit}s{before}; "
        f"{job.weights.name} of {job.made_with['train_id']}, into {job.folder}"
    )
    save_json(job.record, job.made_with)
    remove_leftovers(job.record.parent, of=[job.record.name])
    remove_leftovers(job.folder, below=True, of=job.file_names)
    failed: list[Failed] = []
    if crew.is_wanted and left:
        engine.warm_up(job.domain, dataset.is_video)  # once, and not in each worker
        written = write_on_workers(crew, start, job, left, failed)
    else:
        written = write_here(engine, job, left, failed)
    n_done = n_frames - n_left
    done = lambda: f"{dataset.source}: {n_done} of {n_frames} {unit}s"  # noqa: E731
    with (
        until_lost(job.folder, done),
        TERMINAL.bar(dataset.source, unit, n_frames, done=n_done) as bar,
        closing(written),
    ):
        for n in written:
            bar.update(n)
            n_done += n
    if crew.is_wanted:
        say_failures([(dataset.title(number), error) for number, error in failed])
    if failed:
        print(f"{dataset.source}: {len(failed)} could not be predicted, all others are done")
    return [f"{dataset.source} {dataset.title(number)}" for number, _ in failed]


class Failed(NamedTuple):
    """A video or image that could not be predicted."""

    number: int
    """Its number, from 0."""
    error: Exception


Report = tuple[int, list[Failed]]
"""How many frames a worker has written, and what failed."""
Start = Callable[[], Callable[[Indices], Report]]


def write_here(
    engine: Engine, job: Job, chosen: Sequence[int], failed: list[Failed], quiet: bool = False
) -> Generator[int, None, None]:
    """Predict videos or images, and write their maps.

    Args:
        engine: runs the network.
        job: what to write.
        chosen: the videos or images.
        failed: takes what fails.
        quiet: whether to log none of it.

    Yields:
        1 for each frame that is done.

    Raises:
        OSError: a map cannot be written.
    """

    def fail(index: int, error: UserError) -> None:
        failed.append(Failed(index, error))
        if not quiet:
            log.error("%s", error)

    def write(prediction: tuple[FrameKey, LogDensity]) -> int:
        _write(job, *prediction)
        return 1

    window = smoothing_window(job.smooth_method)
    predictions = predict_dataset(engine, job.dataset, job.domain, "frame", chosen, fail, window)
    return in_threads(write, predictions, WRITERS, ahead=2 * WRITERS)


def start_worker(
    train_id: str | None, device: str, tta: str | None, job: Job
) -> Callable[[Indices], Report]:
    """Load the network in a worker; return the function that predicts some of a data set there."""
    engine = Engine(load_network(train_id, job.dataset.fine_tuned), device, tta=tta)

    def do(chosen: Indices) -> Report:
        failed: list[Failed] = []
        return sum(write_here(engine, job, chosen, failed, quiet=True)), failed

    return do


def write_on_workers(
    crew: Crew, start: Start, job: Job, chosen: Sequence[int], failed: list[Failed]
) -> Generator[int, None, None]:
    """Predict videos one by one, or images a few at a time, on workers; see `write_here`.

    Args:
        crew: the workers.
        start: see `start_worker`.
        job: see `write_here`, and so are the others.
        chosen: the videos or images.
        failed: takes what fails, and what its workers died of.

    Yields:
        The numbers of frames that are done.

    Raises:
        OSError: a map cannot be written.
    """
    tasks, split = batches(chosen, job.dataset.is_video), partial(batches, size=1)
    try:
        with (
            connected(crew) as n,
            closing(with_parts(start, tasks, n, split, gpus=crew.gpus)) as all_done,
        ):
            for done in all_done:
                if isinstance(done.error, OSError | PlaceLost):
                    raise done.error
                if done.error is not None:
                    failed.extend(Failed(index, done.error) for index in done.task)
                elif done.result is not None:
                    n_frames, some = done.result
                    failed.extend(some)
                    yield n_frames
    finally:  # of workers that were killed
        remove_leftovers(job.folder, below=True, of=job.file_names)


def _write(job: Job, key: FrameKey, log_density: LogDensity) -> None:
    """Write the map of one frame and, where the benchmark takes them, its raw probabilities."""
    path = job.map_path(*key)
    density = to_density(log_density)
    if job.dataset.raw_predictions:
        write_density(raw_path(path), density)
    write_map(path, to_saliency_map(density))
