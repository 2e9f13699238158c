"""Scoring a run on datasets (spec 04; files as in spec 05)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from unisal.config import run_dir, save_json
from unisal.data import SaliencyDataset, VideoDataset, find_dataset
from unisal.errors import UserError
from unisal.evaluate.baselines import (
    CENTRE_BIAS,
    CHANCE,
    OBSERVERS,
    CentreBias,
    LogDensity,
    ObserverHalves,
    Predictions,
    fixed_predictions,
    uniform_density,
)
from unisal.evaluate.frames import (
    SPLITS_STREAM,
    Frame,
    OtherFixations,
    ScoringOptions,
    score_frame,
    wanted_metrics,
)
from unisal.evaluate.report import REPORT, Predict, write_report
from unisal.evaluate.scores import Result, Scores, table
from unisal.inference.densities import to_density
from unisal.inference.engine import Engine
from unisal.predict.loading import load_model
from unisal.threads import in_threads

SCORED_BY_DEFAULT = ("DHF1K", "SALICON", "UCFSports", "Hollywood")
READ_AHEAD = 12
"""Frames that are read before the network wants them."""

log = logging.getLogger(__name__)


def score_model(
    train_id: str | None = None,
    sources: Sequence[str] | None = None,
    device: str = "auto",
    model_domain: str | None = None,
    baselines: bool = False,
    options: ScoringOptions | None = None,
    report: bool = False,
) -> list[Result]:
    """Score a run on the scored part of each source; writes the scores into its folder.

    Args:
        train_id: the run.
        sources: the datasets; by default those of `SCORED_BY_DEFAULT` whose folder is there.
        device: where to run the network.
        model_domain: whose modules of the network to use, instead of the source's own. The
            files then say so in their names (`DHF1K_as_SALICON_...`).
        baselines: also score chance, the centre bias, and observers where they are known.
        options: how to score.
        report: also write a page to look at, see `unisal.evaluate.report`.

    Raises:
        UserError: an unknown source or run, or data that is missing, before any work.
    """
    options = options or ScoringOptions()
    folder = run_dir(train_id)
    datasets = [dataset_to_score(source, folder) for source in sources or _sources_at_hand()]
    engines: dict[bool, Engine] = {}
    results = []
    for dataset in datasets:
        tuned = dataset.fine_tuned
        if tuned not in engines:
            engines[tuned] = Engine(load_model(train_id, fine_tuned=tuned), device)
        domain = engines[tuned].domain(model_domain or dataset.domain)
        name = dataset.score_name + (f"_as_{domain}" if model_domain else "")
        scores = score_dataset(engines[tuned], dataset, domain, name, options)
        others = score_baselines(dataset, folder, options) if baselines else {}
        result = Result(dataset, domain, scores, others)
        save_result(result, folder / dataset.score_folder(folder), options)
        print(table(folder.name, scores, others, options.random_seed))
        results.append(result)
    if report:
        predict: Predict = lambda result, index, number: predict_frame(  # noqa: E731
            engines[result.dataset.fine_tuned], result.dataset, result.domain, index, number
        )
        write_report(folder / REPORT, folder.name, results, predict, options)
        print(f"report: {folder / REPORT}")
    return results


def dataset_to_score(
    source: str, folder: Path | None = None, phase: str | None = None
) -> SaliencyDataset:
    """-> the part of a source that it is scored on, read as the run in `folder` reads it.

    Args:
        source: name of the source.
        folder: of the run, None for the options' defaults.
        phase: another part.

    Raises:
        UserError: it is no source, has no ground truth, or its data is missing.
    """
    dataset = find_dataset(source)
    if not dataset.public_ground_truth:
        raise UserError(
            f"where people looked at {source} is not public, so it cannot be scored; "
            "generate_predictions writes what its makers score"
        )
    phase = phase or dataset.scored_phase
    if folder is None:
        return dataset.from_options({}, phase=phase)
    return dataset.as_in_run(folder, phase=phase)


def score_dataset(
    engine: Engine,
    dataset: SaliencyDataset,
    domain: str,
    name: str | None = None,
    options: ScoringOptions | None = None,
) -> Scores:
    """Predict and score every image or frame at the size of its ground truth.

    Reading, prediction and metrics overlap; memory does not grow with the number of frames.

    Args:
        engine: with the network.
        dataset: its scored part.
        domain: whose modules of the network to use.
        name: what the files are called after, default the dataset's own name for it.
        options: how to score.
    """
    predictions = network_predictions(engine, dataset, domain)
    return score_predictions(dataset, predictions, name or dataset.score_name, options)


def score_baselines(
    dataset: SaliencyDataset, folder: Path | None, options: ScoringOptions
) -> dict[str, Scores]:
    """-> the scores of chance, the centre bias of the source's training part, and one half of the
    observers against the other; what the data does not allow is left out with a warning."""
    densities: dict[str, Callable[[tuple[int, int]], NDArray[np.float64]]] = {
        CHANCE: uniform_density
    }
    try:
        train = dataset_to_score(dataset.source, folder, phase="train")
        densities[CENTRE_BIAS] = CentreBias(train).density
    except UserError as error:
        log.warning("no centre bias of %s: %s", dataset.source, error)
    found = {
        name: score_predictions(dataset, fixed_predictions(dataset, density), name, options)
        for name, density in densities.items()
    }
    if any(dataset.read_observers(index) for index in range(len(dataset.lengths()))):
        found[OBSERVERS] = score_observers(dataset, options)
    return found


def network_predictions(
    engine: Engine, dataset: SaliencyDataset, domain: str, chosen: Sequence[int] | None = None
) -> Predictions:
    """-> what the network says of every frame, in order; only of the `chosen` videos or images
    if there are any given."""
    lengths = dataset.lengths()
    chosen = range(len(lengths)) if chosen is None else chosen
    if not isinstance(dataset, VideoDataset):

        def predict(index: int) -> LogDensity:
            frame = dataset.read_input(index)
            size = dataset.target_size(index)
            y = engine.images(frame[None], size, domain, concurrent=True)[0]
            return _finite(y, dataset.title(index))

        predicted_images = in_threads(predict, chosen, engine.workers)
        yield from ((i, 1, y) for i, y in zip(chosen, predicted_images, strict=True))
        return
    step = dataset.frame_modulo
    for index in chosen:
        numbers = range(1, lengths[index] + 1)

        def read(number: int, index: int = index) -> tuple[int, torch.Tensor]:
            return number, dataset.read_input(index, number)

        frames = in_threads(read, numbers, ahead=READ_AHEAD)
        predicted = engine.video(frames, dataset.target_size(index), domain, step)
        for number, y in predicted:
            yield index, number, _finite(y, f"frame {number} of {dataset.title(index)}")


def predict_frame(
    engine: Engine, dataset: SaliencyDataset, domain: str, index: int, number: int
) -> LogDensity:
    """-> what the network says of one frame, the same as while scoring: a video is predicted from
    its start up to the frame."""
    predictions = network_predictions(engine, dataset, domain, [index])
    return next(y for _, n, y in predictions if n == number)


def score_predictions(
    dataset: SaliencyDataset,
    predictions: Predictions,
    name: str,
    options: ScoringOptions | None = None,
) -> Scores:
    """Score the predictions of every frame of a dataset, in threads of their own.

    Args:
        dataset: the ground truth.
        predictions: for every frame, in order.
        name: what the scores are called.
        options: how to score.
    """
    options = options or ScoringOptions()
    lengths = dataset.lengths()
    others = OtherFixations(dataset, options)
    wanted = [wanted_metrics(i, n, dataset.dynamic, options) for i, n in enumerate(lengths)]
    frames = [np.full((n, len(options.metrics)), np.nan) for n in lengths]

    def score(prediction: tuple[int, int, LogDensity]) -> tuple[int, int, list[float]]:
        index, number, log_density = prediction
        target = dataset.read_density(index, number)
        fixations = dataset.read_fixation_map(index, number)
        if fixations.shape != target.shape:
            raise UserError(
                f"frame {number} of {dataset.title(index)}: its fixation map is "
                f"{fixations.shape}, its saliency map {target.shape} (height, width)"
            )
        frame = Frame(
            log_density,
            to_density(log_density),
            target,
            fixations,
            others.of(index, fixations.shape),
            options.rng(SPLITS_STREAM, index, number),
        )
        return index, number, score_frame(frame, options.metrics, wanted[index][number - 1])

    workers = torch.get_num_threads()
    with tqdm(
        total=sum(lengths),
        desc=f"score {name}",
        unit="frame" if dataset.dynamic else "image",
        disable=None,
    ) as bar:
        for index, number, row in in_threads(score, predictions, workers, ahead=2 * workers):
            frames[index][number - 1] = row
            bar.update()
    titles = [dataset.title(index) for index in range(len(lengths))]
    return Scores.from_frames(name, options.metrics, frames, wanted, titles)


def score_observers(dataset: SaliencyDataset, options: ScoringOptions) -> Scores:
    """Score each half of an image's observers against the other, see `ObserverHalves`."""
    halves = ObserverHalves(dataset, options.random_seed)
    others = OtherFixations(dataset, options)
    n_images = len(dataset.lengths())

    def score(index: int) -> list[float]:
        rng = options.rng(SPLITS_STREAM, index, 1)
        rows = [
            score_frame(
                Frame(
                    predicted,
                    to_density(predicted),
                    target,
                    fixations,
                    others.of(index, fixations.shape),
                    rng,
                ),
                options.metrics,
            )
            for predicted, target, fixations in halves.pairs(index)
        ]
        return np.mean(rows, axis=0) if rows else [float("nan")] * len(options.metrics)

    rows = in_threads(score, range(n_images), torch.get_num_threads())
    titles = [dataset.title(index) for index in range(n_images)]
    bar = tqdm(rows, f"score {OBSERVERS}", total=n_images, unit="image", disable=None)
    frames = [np.array([row], dtype=np.float64) for row in bar]
    return Scores.from_frames(OBSERVERS, options.metrics, frames, titles=titles)


def save_result(result: Result, folder: Path, options: ScoringOptions) -> None:
    """Write the files of spec 05, and `<name>_eval_summary.json` with what they do not say."""
    scores, seed = result.scores, options.random_seed
    scores.save(folder)
    summary: dict[str, Any] = {
        "source": result.dataset.source,
        "phase": result.dataset.phase,
        "model_domain": result.domain,
        "metrics": list(scores.metrics),
        "auc_portion": options.auc_portion,
        "n_aucs_maps": options.n_aucs_maps,
        "random_seed": seed,
        **scores.summary(seed),
        "baselines": {name: other.summary(seed) for name, other in result.baselines.items()},
        "videos": list(scores.titles),
    }
    save_json(folder / f"{scores.name}_eval_summary.json", summary)


def _sources_at_hand() -> list[str]:
    """-> the sources that are scored by default, less those whose folder does not exist."""
    found, missing = [], []
    for source in SCORED_BY_DEFAULT:
        try:
            find_dataset(source).root()
            found.append(source)
        except UserError as error:
            missing.append(str(error))
    if not found:
        raise UserError(f"there is nothing to score on: {'; '.join(missing)}")
    for message in missing:
        print(f"not scored: {message}")
    return found


def _finite(log_density: torch.Tensor, what: str) -> LogDensity:
    if not log_density.isfinite().all():
        raise UserError(f"the prediction for {what} is not finite; the weights may be damaged")
    return log_density.numpy()
