"""Predictions for whole data sets, to be handed in or compared (spec 05)."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from unisal.commands.check_data import quick_check
from unisal.config import load_json, pred_dir, run_dir, save_json, train_dir
from unisal.data import DATASETS, SaliencyDataset, VideoDataset, find_dataset
from unisal.data.base import TRAINING_OPTIONS
from unisal.device import pick_device
from unisal.errors import SomeFailed, UserError
from unisal.inference.densities import check_finite, to_density, to_saliency_map
from unisal.inference.engine import Engine
from unisal.model.weights import FINE_TUNED, find_weights
from unisal.predict.loading import load_model
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.threads import in_threads
from unisal.writing.maps import write_density, write_map

READ_AHEAD = 12
"""Frames that are read before the network wants them."""
WRITERS = 2
"""Threads that write maps."""

LogDensity = NDArray[np.float32]
"""`[H, W]`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The predictions of one source."""

    dataset: SaliencyDataset
    folder: Path
    """Where they go."""
    weights: Path
    domain: str
    """Whose modules of the network to use."""
    smooth_method: str | None
    made_with: dict[str, Any]
    """All that the maps depend on, as JSON."""

    @property
    def record(self) -> Path:
        """The file beside the folder that says what the maps in it were made with."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @cached_property
    def lengths(self) -> list[int]:
        return self.dataset.lengths()

    def maps(self, index: int) -> list[Path]:
        """-> the files of a video's or an image's maps."""
        numbers = range(1, self.lengths[index] + 1)
        return [self.folder / self.dataset.prediction_path(index, n) for n in numbers]

    def unfinished(self) -> list[int]:
        """-> the videos or images that lack a file. Files are written whole, so those that are
        there are right."""
        there = set(self.folder.rglob("*"))
        left = []
        for index in range(len(self.lengths)):
            wanted = self.maps(index)
            if self.dataset.raw_predictions:
                wanted += [raw_file(path) for path in wanted]
            if not there.issuperset(wanted):
                left.append(index)
        return left


def generate_predictions(
    train_id: str | None = None,
    sources: Sequence[str] = (),
    phase: str | None = None,
    device: str = "auto",
    model_domain: str | None = None,
    smooth_method: str | None = None,
    x_val_step: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write the saliency maps of whole data sets to `$PRED_DIR/<train_id>/<source>/`.

    A video or image whose files are all there is not predicted again. Beside the folder of each
    source a `.json` says what its maps were made with; others are not mixed in.

    Args:
        train_id: the run whose weights to use.
        sources: the data sets; by default all six, with `phase` all that have it.
        phase: "test", or "eval" for the validation part; by default "test".
        device: where to run the network.
        model_domain: whose modules of the network to use, instead of the source's own.
        smooth_method: for videos, see `Predictor.video`.
        x_val_step: the fold of MIT1003, in the name of MIT300's folder too; by default the one of
            the run's fine-tuning, or 0.
        overwrite: remove predictions that are there first.

    Raises:
        UserError: a mistake in what was asked for, data that is missing or faulty, or predictions
            that were made with something else; nothing was done.
        SomeFailed: some videos or images could not be predicted; all others are done.
    """
    run = run_dir(train_id)
    if x_val_step is not None and not (isinstance(x_val_step, int) and x_val_step >= 0):
        raise UserError(f"x_val_step is {x_val_step!r}; it has to be the number of a fold")
    smoothing_window(smooth_method)
    pick_device(device)
    jobs = [
        _plan(run, dataset, phase, x_val_step, model_domain, smooth_method)
        for dataset in _choose(sources, phase)
    ]
    quick_check(job.dataset for job in jobs)
    for job in jobs:
        _refuse_other_predictions(job, overwrite)

    @cache
    def engine(fine_tuned: bool) -> Engine:
        return Engine(load_model(train_id, fine_tuned), device)

    failed = []
    for job in jobs:
        if overwrite:
            _remove_predictions(job)
        failed += _predict(job, partial(engine, job.dataset.fine_tuned))
    if failed:
        raise SomeFailed(f"{len(failed)} could not be predicted: {', '.join(failed)}")


# ---- before the work ----------------------------------------------------------------------
def _choose(sources: Sequence[str], phase: str | None) -> list[type[SaliencyDataset]]:
    """-> the datasets asked for, each once."""
    chosen = [find_dataset(source) for source in sources]
    if not sources:
        known = DATASETS.values()
        chosen = [d for d in known if phase is None or phase in d.predicted_phases] or [*known]
    for dataset in chosen:
        if phase is not None and phase not in dataset.predicted_phases:
            raise UserError(
                f"{dataset.source} has no predictions for the phase {phase!r}; "
                f"it has them for {' and '.join(dataset.predicted_phases)}"
            )
    return list(dict.fromkeys(chosen))


def _plan(
    run: Path,
    dataset_class: type[SaliencyDataset],
    phase: str | None,
    fold: int | None,
    model_domain: str | None,
    smooth_method: str | None,
) -> Job:
    phase = phase or dataset_class.predicted_phases[0]
    dataset = dataset_class.as_in_run(run, phase=phase, **dataset_class.fold_options(fold))
    train_id = str(run.relative_to(train_dir()))
    weights = find_weights(train_id, dataset.fine_tuned)
    if dataset.fine_tuned and weights.name not in FINE_TUNED:
        log.warning(
            "%s: %s has no weights fine-tuned on MIT1003; %s is used",
            dataset.source,
            run,
            weights.name,
        )
    domain = model_domain or dataset.domain
    smooth_method = smooth_method if dataset.dynamic else None
    made_with = {
        "train_id": train_id,
        "weights": weights.name,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "phase": phase,
        "domain": domain,
        "smooth_method": smooth_method,
        "options": {k: v for k, v in dataset.config.items() if k not in TRAINING_OPTIONS},
    }
    folder = pred_dir() / train_id / dataset.prediction_folder(run, fold)
    made_with = json.loads(json.dumps(made_with))
    return Job(dataset, folder, weights, domain, smooth_method, made_with)


def _refuse_other_predictions(job: Job, overwrite: bool) -> None:
    """Raise a UserError if the folder holds maps that were made with something else."""
    if not job.folder.is_dir() or not any(job.folder.iterdir()):
        return
    advice = f"remove {job.folder} or set PRED_DIR to another folder"
    if not job.record.is_file():
        raise UserError(
            f"{job.folder} holds files, but {job.record}, which says what they were made with, is "
            f"missing; {advice}"
        )
    before = load_json(job.record)
    changed = [key for key, value in job.made_with.items() if before.get(key) != value]
    if changed and not overwrite:
        said = ", ".join(f"{k} was {before.get(k)!r}, now {job.made_with[k]!r}" for k in changed)
        raise UserError(
            f"{job.folder} holds predictions that were made otherwise: {said}; {advice}, or "
            "replace them with --overwrite=True"
        )


def _remove_predictions(job: Job) -> None:
    """Remove what is in the folder. The record stays: a removal that is cut short is seen."""
    for path in job.folder.iterdir() if job.folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


# ---- the work -----------------------------------------------------------------------------
def _predict(job: Job, make_engine: Callable[[], Engine]) -> list[str]:
    """Predict what is not finished -> the names of what could not be predicted."""
    dataset, left = job.dataset, job.unfinished()
    n_frames, n_left = sum(job.lengths), sum(job.lengths[index] for index in left)
    unit = "frame" if dataset.dynamic else "image"
    before = f", {n_frames - n_left} of them done before" if n_left < n_frames else ""
    print(
        f"{dataset.source}, phase {dataset.phase}: {n_frames} {unit}s{before}; "
        f"{job.weights.name} of {job.made_with['train_id']} -> {job.folder}"
    )
    save_json(job.record, job.made_with)
    for path in job.folder.rglob(".*-*"):  # half-written, by a run that was killed
        path.unlink()
    if not left:
        return []
    engine = make_engine()
    domain = engine.domain(job.domain)
    predict = _predict_videos if isinstance(dataset, VideoDataset) else _predict_images
    with tqdm(
        total=n_frames, initial=n_frames - n_left, desc=dataset.source, unit=unit, disable=None
    ) as bar:
        failed = predict(job, engine, domain, left, bar)
    if failed:
        print(f"{dataset.source}: {len(failed)} could not be predicted, all others are done")
    return [f"{dataset.source} {dataset.title(index)}" for index in failed]


def _predict_videos(
    job: Job, engine: Engine, domain: str, videos: Sequence[int], bar: tqdm[NoReturn]
) -> list[int]:
    """Predict videos one after the other -> those that have a faulty frame."""
    dataset, window = job.dataset, smoothing_window(job.smooth_method)
    assert isinstance(dataset, VideoDataset)
    failed = []
    for index in videos:
        maps = job.maps(index)
        numbers = range(1, len(maps) + 1)

        def read(number: int, index: int = index) -> tuple[int, Tensor]:
            return number, dataset.read_input(index, number)

        frames = in_threads(read, numbers, ahead=READ_AHEAD)
        size, step = dataset.frame_size(index), dataset.frame_modulo
        log_densities = ((n, y.numpy()) for n, y in engine.video(frames, size, domain, step))
        smoothed = (y for _, y in median_over_time(log_densities, window))
        try:
            _write_all(job, zip(maps, smoothed, strict=True), bar)
        except UserError as error:
            failed.append(index)
            log.error("%s", error)
    return failed


def _predict_images(
    job: Job, engine: Engine, domain: str, images: Sequence[int], bar: tqdm[NoReturn]
) -> list[int]:
    """Predict images in threads of their own -> those that are faulty."""
    dataset = job.dataset
    failed = []

    def predict(index: int) -> LogDensity | UserError:
        try:
            frame, size = dataset.read_input(index), dataset.frame_size(index)
        except UserError as error:
            return error
        return engine.images(frame[None], size, domain, concurrent=True)[0].numpy()

    def predictions() -> Iterator[tuple[Path, LogDensity]]:
        results = in_threads(predict, images, engine.workers)
        for index, result in zip(images, results, strict=True):
            if isinstance(result, UserError):
                failed.append(index)
                log.error("%s", result)
            else:
                yield job.maps(index)[0], result

    _write_all(job, predictions(), bar)
    return failed


def _write_all(
    job: Job, predictions: Iterable[tuple[Path, LogDensity]], bar: tqdm[NoReturn]
) -> None:
    """Write maps in threads of their own, while the network goes on."""

    def write(prediction: tuple[Path, LogDensity]) -> None:
        path, log_density = prediction
        check_finite(log_density, f"the prediction for {path.relative_to(job.folder)}")
        density = to_density(log_density)
        if job.dataset.raw_predictions:
            write_density(raw_file(path), density)
        write_map(path, to_saliency_map(density))

    for _ in in_threads(write, predictions, WRITERS, 2 * WRITERS):
        bar.update()


def raw_file(path: Path) -> Path:
    """-> where the raw probabilities of a map are kept."""
    return path.with_suffix(".npy")
