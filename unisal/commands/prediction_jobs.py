"""Plans for predicting whole data sets: where the maps go, and what they are made with."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unisal.commands.progress import TERMINAL
from unisal.config import FINE_TUNED, find_weights, load_json, pred_dir, run_name, to_json
from unisal.data import DATASETS, SaliencyDataset, find_dataset
from unisal.data.base import TRAINING_OPTIONS
from unisal.errors import UserError
from unisal.files import require_writable_file, require_writable_folder
from unisal.inference.views import Tta, read_tta

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The predictions of one source."""

    dataset: SaliencyDataset
    folder: Path
    """Where they go."""
    weights: Path
    domain: str
    """The network domain that is used."""
    smooth_method: str | None
    made_with: dict[str, Any]
    """Everything that the maps depend on, as JSON."""

    @property
    def record(self) -> Path:
        """The file beside the folder that says what its maps were made with."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @cached_property
    def lengths(self) -> list[int]:
        """The number of frames of each video; 1 for each image."""
        return self.dataset.lengths()

    def map_path(self, index: int, number: int) -> Path:
        """Return the file of one frame's map."""
        return self.folder / self.dataset.prediction_path(index, number)

    @property
    def file_names(self) -> set[str]:
        """The names of all files that are written, without their folders."""
        numbers = ((i, n) for i, length in enumerate(self.lengths) for n in range(1, length + 1))
        names = {self.map_path(index, number).name for index, number in numbers}
        raw = {raw_path(Path(name)).name for name in names} if self.dataset.raw_predictions else ()
        return names | set(raw)

    def find_unfinished(self) -> list[int]:
        """Find the videos or images that lack a file.

        Files are written whole, so those that exist are finished.
        """
        existing = set(self.folder.rglob("*"))
        unfinished = []
        for index, n_frames in enumerate(self.lengths):
            wanted = [self.map_path(index, number) for number in range(1, n_frames + 1)]
            if self.dataset.raw_predictions:
                wanted += [raw_path(path) for path in wanted]
            if not existing.issuperset(wanted):
                unfinished.append(index)
        return unfinished


def choose_datasets(sources: Sequence[str], phase: str | None) -> list[type[SaliencyDataset]]:
    """Return the data sets that were asked for, each once.

    Args:
        sources: their names; none for all of them, or all that have the `phase`.
        phase: the phase that was asked for; None for each data set's default.

    Raises:
        UserError: a source is unknown, or has no predictions for the phase.
    """
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


def open_dataset(
    kind: type[SaliencyDataset], run: Path, phase: str | None, fold: int | None
) -> SaliencyDataset:
    """Make a data set with the options of a run.

    Args:
        kind: its class.
        run: the run's folder.
        phase: its part; None for the default.
        fold: for sources with folds; None for the one that the run's fine-tuning held out.

    Raises:
        UserError: the run's options or the data are faulty.
    """
    phase = phase or kind.predicted_phases[0]
    return kind.as_in_run(run, progress=TERMINAL, phase=phase, **kind.fold_options(fold))


def plan_job(
    dataset: SaliencyDataset,
    run: Path,
    fold: int | None,
    domain: str,
    smooth_method: str | None,
    tta: Tta,
) -> Job:
    """Plan the predictions of a data set.

    Args:
        dataset: what to predict.
        run: folder of the run whose weights are used.
        fold: the fold that was asked for.
        domain: the network domain to use; the network has it.
        smooth_method: for videos.
        tta: see `unisal.inference.engine.Engine`.

    Raises:
        UserError: the run has no weights.
    """
    train_id = run_name(run)
    weights = find_weights(train_id, dataset.fine_tuned)
    if dataset.fine_tuned and weights.name not in FINE_TUNED:
        log.warning(
            "%s: %s has no weights fine-tuned on MIT1003; %s is used",
            dataset.source,
            run,
            weights.name,
        )
    smooth_method = smooth_method if dataset.is_video else None
    made_with = {
        "train_id": train_id,
        "weights": weights.name,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "phase": dataset.phase,
        "domain": domain,
        "smooth_method": smooth_method,
        "tta": read_tta(tta) or None,
        "temperature": _temperature(run, domain),
        "options": {k: v for k, v in dataset.config.items() if k not in TRAINING_OPTIONS},
    }
    made_with = json.loads(to_json(made_with))
    folder = pred_dir() / train_id / dataset.prediction_folder(run, fold)
    return Job(dataset, folder, weights, domain, smooth_method, made_with)


def _temperature(run: Path, domain: str) -> float | None:
    """Return the temperature of a domain; None for 1, which all had before there were others."""
    temperatures = load_json(run / "UNISAL.json").get("temperatures") or {}
    return temperatures.get(domain)


def check_place(job: Job) -> None:
    """Check that the maps and their record can be written.

    Raises:
        UserError: they cannot; names the place.
    """
    advice = "name another folder in PRED_DIR"
    require_writable_folder(job.folder, advice)
    require_writable_file(job.record, advice)


def refuse_other_predictions(job: Job, overwrite: bool) -> None:
    """Check that the folder holds no maps that were made with something else.

    Args:
        job: the plan.
        overwrite: whether such maps will be replaced.

    Raises:
        UserError: it does, or it holds files of unknown origin, which are never replaced.
    """
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
            f"{job.folder} holds predictions made with other settings: {said}; {advice}, or "
            "replace them with --overwrite=True"
        )


def remove_predictions(job: Job) -> None:
    """Empty the folder. The record stays, so that an interrupted removal is noticed."""
    for path in job.folder.iterdir() if job.folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def raw_path(map_path: Path) -> Path:
    """Return the file of a map's raw probabilities."""
    return map_path.with_suffix(".npy")
