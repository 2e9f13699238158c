"""Scores of a network's predictions, and of reference baselines, on a data set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
from unisal.evaluate.detail import SubsetRows, SubsetScorer, mean_of_defined
from unisal.evaluate.frames import FixationMap, FrameToScore, OtherFixations
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.metric_table import Need, choose_metrics, find_needs, score_frame
from unisal.evaluate.options import SPLITS_STREAM, ScoringOptions
from unisal.evaluate.people import ONE_LEFT_OUT, WHOLE_GROUP, OneLeftOut, Trial, for_whole_group
from unisal.evaluate.scores import Scores, SubsetKey
from unisal.evaluate.spectral import SPECTRAL_RESIDUAL, SpectralResidual
from unisal.evaluate.subsets import OBSERVER, Tally
from unisal.forks import compute_threads
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

    With gaze data of one's own, stimuli that are scored and trained on count for all others but not
    for themselves; if nothing is left for training, the scored part is taken in this way.

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
    try:
        train = dataset.from_options(options, progress=progress, phase="train")
    except UserError:
        if not dataset.scored_in_detail:
            raise
        train = dataset
    return CentreBias(train, progress, leave_out=dataset.scored_in_detail)


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
        self._dataset, needs = dataset, find_needs(options.metrics)
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
            frame = frame._replace(centre_bias=self._centre_bias.predict(self._dataset, index))
        return frame


def score_dataset(
    engine: Engine,
    dataset: SaliencyDataset,
    domain: str,
    name: str | None = None,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
    subsets: SubsetScorer | None = None,
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
        subsets: see `score_predictions`.

    Raises:
        UserError: data is missing or faulty, a prediction is not finite, or a metric needs the
            centre bias and it cannot be made.
    """
    predictions = predict_dataset(engine, dataset, domain, size="target")
    name = name or dataset.score_name
    return score_predictions(dataset, predictions, name, options, centre_bias, progress, subsets)


def score_predictions(
    dataset: SaliencyDataset,
    predictions: KeyedPredictions,
    name: str,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
    subsets: SubsetScorer | None = None,
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
        subsets: scores the predictions against subsets of the gaze as well, and keeps the scores.

    Raises:
        UserError: the ground truth is faulty, or a metric needs the centre bias and it cannot be
            made.
    """
    options = options or ScoringOptions()
    scorer = FrameScorer(dataset, options, centre_bias, subsets)
    scored = score_frames(scorer, predictions)
    return gather_scores(dataset, scored, name, options, progress, subsets)


class ScoredFrame(NamedTuple):
    """A frame's scores."""

    key: FrameKey
    row: list[float]
    """Of each metric; NaN where it was not computed."""
    of_subsets: SubsetRows
    """The same against subsets of the gaze."""


class FrameScorer:
    """Scores the predictions of single frames of a data set; safe to call from several threads.

    Args:
        dataset: see `score_predictions`.
        options: how to score.
        centre_bias: see `score_predictions`.
        subsets: see `score_predictions`.

    Raises:
        UserError: see `score_predictions`.
    """

    def __init__(
        self,
        dataset: SaliencyDataset,
        options: ScoringOptions,
        centre_bias: CentreBias | None = None,
        subsets: SubsetScorer | None = None,
    ) -> None:
        self._dataset, self._options, self._subsets = dataset, options, subsets
        self._maker = FrameMaker(dataset, options, centre_bias)
        self._wanted = wanted_metrics(dataset, options)

    def score(self, prediction: tuple[FrameKey, LogDensity]) -> ScoredFrame:
        """Score a prediction; all NaN where the frame was not looked at.

        Raises:
            UserError: the ground truth is faulty.
        """
        (key, log_density), options = prediction, self._options
        if not self._dataset.is_looked_at(*key):
            return ScoredFrame(key, [float("nan")] * len(options.metrics), [])
        target, fixations = read_ground_truth(self._dataset, key)
        rng = options.rng(SPLITS_STREAM, *key)
        frame = self._maker.make(key.video, log_density, target, fixations, rng)
        chosen = self._wanted[key.video][key.number - 1]
        row = score_frame(frame, options.metrics, chosen)
        rows = [] if self._subsets is None else self._subsets.rows(frame, key, row, chosen)
        return ScoredFrame(key, row, rows)


def wanted_metrics(dataset: SaliencyDataset, options: ScoringOptions) -> list[NDArray[np.bool_]]:
    """Return which metrics are computed on each frame, `[frames, metrics]` of each video."""
    lengths = enumerate(dataset.lengths())
    return [choose_metrics(i, n, dataset.is_video, options) for i, n in lengths]


def score_frames(scorer: FrameScorer, predictions: KeyedPredictions) -> Iterator[ScoredFrame]:
    """Score predictions in threads of their own; yield the frames in the same order."""
    workers = compute_threads()
    return in_threads(scorer.score, predictions, workers, ahead=2 * workers)


def gather_scores(
    dataset: SaliencyDataset,
    scored: Iterable[ScoredFrame],
    name: str,
    options: ScoringOptions,
    progress: Progress = SILENT,
    subsets: SubsetScorer | None = None,
) -> Scores:
    """Put the scores of frames together.

    Args:
        dataset: see `score_predictions`.
        scored: every frame, in order.
        name: name of the scores.
        options: how they were scored.
        progress: counts the frames.
        subsets: keeps the scores of subsets.
    """
    lengths, wanted = dataset.lengths(), wanted_metrics(dataset, options)
    frames = [np.full((n, len(options.metrics)), np.nan) for n in lengths]
    unit = "frame" if dataset.is_video else "image"
    with progress.bar(f"score {name}", unit, sum(lengths)) as bar:
        for key, row, rows in scored:
            frames[key.video][key.number - 1] = row
            if subsets is not None:
                subsets.add(key.video, rows, wanted[key.video][key.number - 1])
            bar.update()
    titles = [dataset.title(index) for index in range(len(lengths))]
    return Scores.from_frames(name, options.metrics, frames, wanted, titles)


def score_baselines(
    dataset: SaliencyDataset,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
    in_detail: bool | None = None,
) -> dict[str, Scores]:
    """Score reference baselines.

    Args:
        dataset: see `score_predictions`.
        options: see `score_predictions`.
        centre_bias: that of the source's training part; by default it is made, or left out with a
            warning if that is impossible.
        progress: see `score_predictions`.
        in_detail: whether to score the spectral residual, and the estimate for a whole group of
            observers from its halves, as well; None for what the source says.

    Returns:
        The scores by the name of the baseline: chance, the centre bias and, where the data tells
        the observers apart, one half of them against the other.

    Raises:
        UserError: see `score_predictions`.
    """
    options = options or ScoringOptions()
    in_detail = dataset.scored_in_detail if in_detail is None else in_detail
    baselines: dict[str, Baseline] = {CHANCE: Chance()}
    try:
        centre_bias = centre_bias or make_centre_bias(dataset, progress)
        baselines[CENTRE_BIAS] = centre_bias
    except UserError as error:
        log.warning("no centre bias of %s: %s", dataset.source, error)
    gaze = Gaze(dataset)
    if in_detail:
        baselines[SPECTRAL_RESIDUAL] = SpectralResidual(gaze)
    found = {
        name: score_predictions(
            dataset, repeat_baseline(baseline, dataset), name, options, centre_bias, progress
        )
        for name, baseline in baselines.items()
    }
    indices = range(len(dataset.lengths()))
    if gaze.tells_people_apart() if in_detail else any(map(dataset.read_observers, indices)):
        found[OBSERVERS] = score_observers(dataset, options, centre_bias, progress)
        if in_detail and "cc" in options.metrics:
            found[WHOLE_GROUP] = for_whole_group(found[OBSERVERS])
    return found


def score_observers(
    dataset: SaliencyDataset,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
) -> Scores:
    """Score each half of the observers against the other, see `ObserverHalves`.

    Args:
        dataset: a data set that distinguishes observers.
        options: see `score_predictions`.
        centre_bias: see `score_predictions`.
        progress: see `score_predictions`.

    Returns:
        For each image, or video frame by frame, the mean of both directions; NaN where fewer than
        two people looked at it.

    Raises:
        UserError: see `score_predictions`.
    """
    options = options or ScoringOptions()
    halves = ObserverHalves(dataset, options.random_seed)
    frames = [np.full((n, len(options.metrics)), np.nan) for n in dataset.lengths()]

    def trials(index: int, number: int) -> Iterator[Trial]:
        return (Trial(*pair) for pair in halves.pairs(index, number))

    scored = _score_trials(dataset, trials, OBSERVERS, options, centre_bias, progress)
    for key, _, rows in scored:
        if rows:
            frames[key.video][key.number - 1] = np.mean([row for _, row in rows], axis=0)
    titles = [dataset.title(index) for index in range(len(frames))]
    return Scores.from_frames(OBSERVERS, options.metrics, frames, titles=titles)


def score_one_left_out(
    dataset: SaliencyDataset,
    options: ScoringOptions | None = None,
    centre_bias: CentreBias | None = None,
    progress: Progress = SILENT,
) -> tuple[Scores, dict[SubsetKey, Scores]]:
    """Score how well all other observers predict each of them, see `OneLeftOut`.

    Args:
        dataset: a data set that distinguishes observers.
        options: see `score_predictions`.
        centre_bias: see `score_predictions`.
        progress: see `score_predictions`.

    Returns:
        The mean over the observers of each image, or video frame by frame; and the scores of each
        observer whose name is known.

    Raises:
        UserError: see `score_predictions`.
    """
    options = options or ScoringOptions()
    names, lengths = dataset.observers, dataset.lengths()
    size = len(lengths), len(options.metrics)
    everyone, single = Tally(*size), [Tally(*size) for _ in names]
    trials = OneLeftOut(dataset).trials
    scored = _score_trials(dataset, trials, ONE_LEFT_OUT, options, centre_bias, progress)
    for key, wanted, rows in scored:
        if rows:
            everyone.add(key.video, mean_of_defined([row for _, row in rows]), wanted)
        for observer, row in rows if names else []:
            single[observer].add(key.video, row, wanted)
    titles = [dataset.title(index) for index in range(len(lengths))]
    return everyone.scores(ONE_LEFT_OUT, options.metrics, titles), {
        SubsetKey(OBSERVER, name): tally.scores(name, options.metrics, titles)
        for name, tally in zip(names, single, strict=True)
        if tally.n_frames.any()
    }


def _score_trials(
    dataset: SaliencyDataset,
    trials: Callable[[int, int], Iterator[Trial]],
    name: str,
    options: ScoringOptions,
    centre_bias: CentreBias | None,
    progress: Progress,
) -> Iterator[tuple[FrameKey, NDArray[np.bool_], list[tuple[int, list[float]]]]]:
    """Score the predictions of people by people, frame by frame.

    Yields:
        The frame; which metrics were to be computed; of each trial the observer and the scores.
    """
    lengths = dataset.lengths()
    maker = FrameMaker(dataset, options, centre_bias)
    wanted = wanted_metrics(dataset, options)
    keys = [FrameKey(i, number) for i, n in enumerate(lengths) for number in range(1, n + 1)]

    def score(
        key: FrameKey,
    ) -> tuple[FrameKey, NDArray[np.bool_], list[tuple[int, list[float]]]]:
        rng, chosen = options.rng(SPLITS_STREAM, *key), wanted[key.video][key.number - 1]
        rows = []
        for trial in trials(*key):
            frame = maker.make(key.video, trial.log_density, trial.target, trial.fixations, rng)
            rows.append((trial.observer, score_frame(frame, options.metrics, chosen)))
        return key, chosen, rows

    unit = "frame" if dataset.is_video else "image"
    with progress.bar(f"score {name}", unit, len(keys)) as bar:
        for found in in_threads(score, keys, compute_threads()):
            yield found
            bar.update()


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
        for number in range(1, n_frames + 1):
            yield FrameKey(index, number), baseline.predict(dataset, index, number)


def read_ground_truth(dataset: SaliencyDataset, key: FrameKey) -> tuple[Density, FixationMap]:
    """Read the density and the fixation map of a frame, and check their sizes.

    Args:
        dataset: the ground truth.
        key: the frame.

    Returns:
        Both `[h, w]`.

    Raises:
        UserError: their sizes differ, or one cannot be read.
    """
    target = dataset.read_density(*key)
    fixations = dataset.read_fixation_map(*key)
    if fixations.shape != target.shape:
        raise UserError(
            f"frame {key.number} of {dataset.title(key.video)}: its fixation map is "
            f"{fixations.shape}, its saliency map {target.shape} (height, width)"
        )
    return target, fixations
