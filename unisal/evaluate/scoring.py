"""Scores of a network's predictions, and of reference baselines, on a data set."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from unisal.data import SaliencyDataset, find_dataset
from unisal.data.base import TRAINING_OPTIONS
from unisal.errors import UserError
from unisal.evaluate.baselines import (
    CENTRE_BIAS,
    CHANCE,
    OBSERVERS,
    Baseline,
    CentreBias,
    Chance,
    ObserverHalves,
)
from unisal.evaluate.frames import FixationMap, FrameToScore, OtherFixations
from unisal.evaluate.metric_table import Need, choose_metrics, find_needs, score_frame
from unisal.evaluate.options import SPLITS_STREAM, ScoringOptions
from unisal.evaluate.scores import Scores
from unisal.inference.densities import to_density
from unisal.inference.engine import Engine
from unisal.predict.datasets import FrameKey, KeyedPredictions, predict_dataset
from unisal.progress import SILENT, Progress
from unisal.threads import in_threads
from unisal.types import Density, LogDensity

log = logging.getLogger(__name__)


def dataset_to_score(
    source: str,
    folder: Path | None = None,
    phase: str | None = None,
    progress: Progress = SILENT,
) -> SaliencyDataset:
    """Return the part of a source that is scored, with the options of a run.

    Args:
        source: name of the source.
        folder: the run's folder; None for the default options.
        phase: another part to score; None for the source's own.
        progress: shows how far a first look at many files has come.

    Raises:
        UserError: there is no such source, its gaze is not public, or its data is missing.
    """
    dataset = find_dataset(source)
    if not dataset.public_ground_truth:
        raise UserError(
            f"where people looked at {source} is not public, so it cannot be scored; "
            "generate_predictions writes what its makers score"
        )
    phase = phase or dataset.scored_phase
    if folder is None:
        return dataset.from_options({}, progress=progress, phase=phase)
    return dataset.as_in_run(folder, progress=progress, phase=phase)


def make_centre_bias(dataset: SaliencyDataset, progress: Progress = SILENT) -> CentreBias:
    """Make the centre bias of the training part that belongs to a scored part.

    The part is read with the same options, so of MIT1003 it is all folds but the scored one.
    (With `x_val_step=None` every part of MIT1003 is all images: the centre bias then includes the
    images that are scored.)

    Args:
        dataset: the scored part.
        progress: counts the frames whose fixations are read.

    Raises:
        UserError: the source has no training part, its data is missing or faulty, or it has no
            fixations.
    """
    if "train" not in dataset.phases:
        raise UserError(f"{dataset.source} has no training part")
    options = {k: v for k, v in dataset.config.items() if k not in TRAINING_OPTIONS}
    return CentreBias(dataset.from_options(options, progress=progress, phase="train"), progress)


def make_needed_centre_bias(
    dataset: SaliencyDataset, options: ScoringOptions, progress: Progress = SILENT
) -> CentreBias | None:
    """Make the centre bias if one of the metrics needs it.

    Args:
        dataset: the scored part.
        options: how to score.
        progress: counts the frames whose fixations are read.

    Raises:
        UserError: it cannot be made; names the metrics that need it.
    """
    needing = find_needs(options.metrics).get(Need.CENTRE_BIAS)
    if not needing:
        return None
    try:
        return make_centre_bias(dataset, progress)
    except UserError as error:
        raise UserError(
            f"{', '.join(needing)} cannot be computed on {dataset.source} without the centre bias "
            f"of its training part: {error}"
        ) from None


class FrameMaker:
    """Gathers what the frames of a data set are scored with.

    Whatever the metrics need besides predictions and ground truth is prepared once.

    Args:
        dataset: the scored part.
        options: how to score.
        centre_bias: that of the training part; None to make it if a metric needs it.

    Raises:
        UserError: a metric needs the centre bias, and it cannot be made.
    """

    def __init__(
        self,
        dataset: SaliencyDataset,
        options: ScoringOptions,
        centre_bias: CentreBias | None = None,
    ) -> None:
        needs = find_needs(options.metrics)
        self._others = OtherFixations(dataset, options) if Need.OTHER_FIXATIONS in needs else None
        self._centre_bias: CentreBias | None = None
        if Need.CENTRE_BIAS in needs:
            self._centre_bias = centre_bias or make_needed_centre_bias(dataset, options)

    def make(
        self,
        index: int,
        log_density: LogDensity,
        target: Density,
        fixations: FixationMap,
        rng: np.random.Generator,
    ) -> FrameToScore:
        """Put together one frame of a video, or an image.

        Args:
            index: index of the video or image, from 0.
            log_density: the prediction `[h, w]`.
            target: the ground truth's saliency map as a density `[h, w]`.
            fixations: the fixation map `[h, w]`.
            rng: the random stream of the shuffled AUC's draws.
        """
        size = fixations.shape[0], fixations.shape[1]
        frame = FrameToScore(log_density, to_density(log_density), target, fixations, rng)
        if self._others is not None:
            frame = frame._replace(others=self._others.of(index, size))
        if self._centre_bias is not None:
            frame = frame._replace(centre_bias=self._centre_bias.log_density(size))
        return frame


def score_dataset(
    engine: Engine,
    dataset: SaliencyDataset,
    domain: str,
    name: str | None = None,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
) -> Scores:
    """Predict and score every image or frame at the size of its ground truth.

    Reading, prediction and metrics overlap; memory does not grow with the number of frames.

    Args:
        engine: runs the network.
        dataset: the part to score.
        domain: the network domain to use.
        name: name of the scores; by default the one that the data set gives them.
        options: see `score_predictions`.
        centre_bias: see `score_predictions`.
        progress: see `score_predictions`.

    Raises:
        UserError: data is missing or faulty, a prediction is not finite, or a metric needs the
            centre bias and it cannot be made.
    """
    predictions = predict_dataset(engine, dataset, domain, size="target")
    name = name or dataset.score_name
    return score_predictions(dataset, predictions, name, options, centre_bias, progress)


def score_predictions(
    dataset: SaliencyDataset,
    predictions: KeyedPredictions,
    name: str,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
) -> Scores:
    """Score the predictions of every frame of a data set, in threads of their own.

    Args:
        dataset: the ground truth.
        predictions: for every frame, in order, at the size of the ground truth.
        name: name of the scores.
        options: how to score; by default with the six published metrics.
        centre_bias: that of the source's training part, for the metrics that need it; by default
            it is made if one does.
        progress: counts the frames.

    Raises:
        UserError: the ground truth is faulty, or a metric needs the centre bias and it cannot be
            made.
    """
    options = options or ScoringOptions()
    lengths = dataset.lengths()
    maker = FrameMaker(dataset, options, centre_bias)
    wanted = [choose_metrics(i, n, dataset.is_video, options) for i, n in enumerate(lengths)]
    frames = [np.full((n, len(options.metrics)), np.nan) for n in lengths]

    def score(prediction: tuple[FrameKey, LogDensity]) -> tuple[FrameKey, list[float]]:
        key, log_density = prediction
        if not dataset.is_looked_at(*key):
            return key, [float("nan")] * len(options.metrics)
        target, fixations = _read_ground_truth(dataset, key)
        rng = options.rng(SPLITS_STREAM, *key)
        frame = maker.make(key.video, log_density, target, fixations, rng)
        return key, score_frame(frame, options.metrics, wanted[key.video][key.number - 1])

    workers = torch.get_num_threads()
    unit = "frame" if dataset.is_video else "image"
    with progress.bar(f"score {name}", unit, sum(lengths)) as bar:
        for key, row in in_threads(score, predictions, workers, ahead=2 * workers):
            frames[key.video][key.number - 1] = row
            bar.update()
    titles = [dataset.title(index) for index in range(len(lengths))]
    return Scores.from_frames(name, options.metrics, frames, wanted, titles)


def score_baselines(
    dataset: SaliencyDataset,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
) -> dict[str, Scores]:
    """Score reference baselines.

    Args:
        dataset: see `score_predictions`.
        options: see `score_predictions`.
        centre_bias: that of the source's training part; by default it is made, or left out with a
            warning if that is impossible.
        progress: see `score_predictions`.

    Returns:
        The scores by the name of the baseline: chance, the centre bias and, where the data tells
        the observers apart, one half of them against the other.

    Raises:
        UserError: see `score_predictions`.
    """
    options = options or ScoringOptions()
    baselines: dict[str, Baseline] = {CHANCE: Chance()}
    try:
        centre_bias = centre_bias or make_centre_bias(dataset, progress)
        baselines[CENTRE_BIAS] = centre_bias
    except UserError as error:
        log.warning("no centre bias of %s: %s", dataset.source, error)
    found = {
        name: score_predictions(
            dataset, repeat_baseline(baseline, dataset), name, options, centre_bias, progress
        )
        for name, baseline in baselines.items()
    }
    if any(dataset.read_observers(index) for index in range(len(dataset.lengths()))):
        found[OBSERVERS] = score_observers(dataset, options, centre_bias, progress)
    return found


def score_observers(
    dataset: SaliencyDataset,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
) -> Scores:
    """Score each half of an image's observers against the other, see `ObserverHalves`.

    Args:
        dataset: a data set that distinguishes observers.
        options: see `score_predictions`.
        centre_bias: see `score_predictions`.
        progress: see `score_predictions`.

    Returns:
        For each image the mean of both directions; NaN where fewer than two people looked at it.

    Raises:
        UserError: see `score_predictions`.
    """
    options = options or ScoringOptions()
    halves = ObserverHalves(dataset, options.random_seed)
    maker = FrameMaker(dataset, options, centre_bias)
    n_images = len(dataset.lengths())

    def score(index: int) -> list[float]:
        rng = options.rng(SPLITS_STREAM, index, 1)
        rows = [
            score_frame(maker.make(index, *pair, rng), options.metrics)
            for pair in halves.pairs(index)
        ]
        return np.mean(rows, axis=0) if rows else [float("nan")] * len(options.metrics)

    frames = []
    with progress.bar(f"score {OBSERVERS}", "image", n_images) as bar:
        for row in in_threads(score, range(n_images), torch.get_num_threads()):
            frames.append(np.array([row], dtype=np.float64))
            bar.update()
    titles = [dataset.title(index) for index in range(n_images)]
    return Scores.from_frames(OBSERVERS, options.metrics, frames, titles=titles)


def predict_frame(
    engine: Engine, dataset: SaliencyDataset, domain: str, index: int, number: int
) -> LogDensity:
    """Predict one frame again exactly as it was predicted for its score: a video from its start.

    Args:
        engine: see `score_dataset`.
        dataset: see `score_dataset`.
        domain: see `score_dataset`.
        index: index of the video or image, from 0.
        number: number of the frame, from 1.

    Returns:
        The log-density `[h, w]`.
    """
    predictions = predict_dataset(engine, dataset, domain, size="target", chosen=[index])
    return next(log_density for key, log_density in predictions if key.number == number)


def repeat_baseline(baseline: Baseline, dataset: SaliencyDataset) -> KeyedPredictions:
    """Yield the prediction of a baseline for every frame of a data set, in order."""
    for index, n_frames in enumerate(dataset.lengths()):
        log_density = baseline.log_density(dataset.target_size(index))
        for number in range(1, n_frames + 1):
            yield FrameKey(index, number), log_density


def _read_ground_truth(dataset: SaliencyDataset, key: FrameKey) -> tuple[Density, FixationMap]:
    """Read the density and the fixation map of a frame, and check their sizes."""
    target = dataset.read_density(*key)
    fixations = dataset.read_fixation_map(*key)
    if fixations.shape != target.shape:
        raise UserError(
            f"frame {key.number} of {dataset.title(key.video)}: its fixation map is "
            f"{fixations.shape}, its saliency map {target.shape} (height, width)"
        )
    return target, fixations
