"""What `finetune` trains again and again: folds, and curves over the number of stimuli or people.

Each training is a run of its own in a folder of the run that is studied. Of a finished one only its
options, its losses and its scores are kept, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.checks import check_count
from unisal.commands.progress import TERMINAL
from unisal.config import load_json, run_name, save_json
from unisal.data.gaze.source import GazeSource
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scores import INTERVAL, N_RESAMPLES
from unisal.evaluate.scoring import dataset_to_score, score_dataset
from unisal.files import write_atomically
from unisal.inference.engine import Engine
from unisal.predict.loading import load_model
from unisal.train import Trainer
from unisal.train.domains import domains
from unisal.train.trainer import CONFIG
from unisal.visualize.curve import Curve, CurvePoint, draw_curve

METRICS = ("kld", "nss", "cc")
SHOWN = "cc"
"""The metric of the chart and of the conclusion."""
SCORES = "study_scores.json"
HALVINGS, SMALLEST = 4, 2
"""A curve has the whole number and so many halves of it, none smaller than this (observers: 1)."""
DRAWS_BELOW_HALF = 2
"""How many draws of stimuli there are of each number below one half."""
MAX_EPOCHS_FACTOR = 2
"""Trainings on few stimuli have more epochs, at most so many times as many, since each is short."""
SEED = 0


@dataclass(frozen=True)
class SubRun:
    """One training of a study.

    Attributes:
        name: the name of its folder.
        n: the number that the study varies: stimuli, observers, or the fold from 1.
        options: the options of the data set that differ from those of the run.
        epochs_factor: how many times as many epochs as the run it has, at most.
    """

    name: str
    n: int
    options: Mapping[str, Any]
    epochs_factor: float = 1


@dataclass(frozen=True)
class Outcome:
    """The scores of a training.

    Attributes:
        name: see `SubRun`.
        n: see `SubRun`.
        best_epoch: the epoch of its best weights, from 0; -1: those at the start.
        scores: a list of values for each metric, one per stimulus of its validation part.
        titles: the stimuli.
    """

    name: str
    n: int
    best_epoch: int | None
    scores: Mapping[str, Sequence[float]]
    titles: Sequence[str] = field(default_factory=tuple)


# ---- which trainings a study has ----------------------------------------------------------
def fold_runs(n_folds: int) -> list[SubRun]:
    """Return the trainings of a cross-validation, each of which leaves out another fold."""
    check_count(n_folds, "folds", 2)
    return [
        SubRun(f"fold{k + 1}", k + 1, {"n_x_val": n_folds, "x_val_step": k}) for k in range(n_folds)
    ]


def curve_runs(dataset: GazeSource, sizes: Sequence[int] | None) -> list[SubRun]:
    """Return the trainings of a learning curve over the number of stimuli, without that on all.

    Args:
        dataset: the training part.
        sizes: the numbers of stimuli; None for halves.
    """
    titles, runs = [dataset.title(i) for i in range(len(dataset))], []
    for n in _sizes(sizes, len(titles), "curve", SMALLEST):
        for draw in range(1 if 2 * n >= len(titles) else DRAWS_BELOW_HALF):
            drawn = np.random.default_rng([SEED, draw]).permutation(len(titles))[:n]
            options = {"train_stimuli": tuple(titles[i] for i in sorted(drawn))}
            factor = min(MAX_EPOCHS_FACTOR, len(titles) / n)
            runs.append(SubRun(f"n{n}_{draw + 1}", n, options, factor))
    return runs


def observer_runs(dataset: GazeSource, sizes: Sequence[int] | None) -> list[SubRun]:
    """Return the trainings of a learning curve over the number of people, without that on all.

    Args:
        dataset: the training part.
        sizes: the numbers of people; None for halves.

    Raises:
        UserError: the table does not tell people apart.
    """
    people = dataset.observers
    if len(people) < 2:
        raise UserError(f"observers: the table of {dataset.source} does not tell people apart")
    order = np.random.default_rng(SEED).permutation(len(people))
    return [
        SubRun(f"n{n}", n, {"train_observers": tuple(people[i] for i in sorted(order[:n]))})
        for n in _sizes(sizes, len(people), "observers", 1)
    ]


def _sizes(given: Sequence[int] | None, n: int, option: str, smallest: int) -> list[int]:
    """Return the numbers below `n` of a curve, in order.

    Raises:
        UserError: there are none.
    """
    halves = {n // 2**k for k in range(1, HALVINGS + 1)}
    sizes = {size for size in halves if size >= smallest}
    if given is not None:
        sizes = {check_count(size, option, 1, n) for size in given} - {n}
    if not sizes:
        raise UserError(f"{option}: {n} are too few for a curve; name smaller numbers")
    return sorted(sizes)


# ---- training and scoring -----------------------------------------------------------------
def run_study(trainer: Trainer, kind: str, runs: Sequence[SubRun]) -> list[Outcome]:
    """Train and score what has not been yet.

    Args:
        trainer: the run that is studied.
        kind: the name of the study, and of its folder in the folder of the run.
        runs: the trainings.
    """
    outcomes = []
    for number, sub in enumerate(runs, 1):
        folder = trainer.folder / kind / f"{sub.name}_{trainer.cfg.suffix}"
        if not (folder / SCORES).is_file():
            print(f"{kind}: {sub.name}, {number} of {len(runs)}")
            _train(trainer, folder, sub)
        outcomes.append(Outcome(**load_json(folder / SCORES)))
    return outcomes


def _train(trainer: Trainer, folder: Path, sub: SubRun) -> None:
    """Train one run of a study, score it, and keep its scores instead of its weights."""
    cfg, source = trainer.cfg, next(iter(trainer.datasets["train"]))
    if (folder / CONFIG).is_file():
        part = Trainer.resume(run_name(folder), device=cfg.device)
    else:
        own = {**cfg.dataset_options.get(source, {}), **sub.options}
        changed = {
            "prefix": run_name(folder).removesuffix(f"_{cfg.suffix}"),
            "dataset_options": {**cfg.dataset_options, source: own},
            "num_epochs": math.ceil(cfg.num_epochs * sub.epochs_factor),
            "tboard": False,
            "new_instance": True,
        }
        part = Trainer(**{**cfg.as_dict(), **changed})
    part.fit(TERMINAL)
    outcome = score_run(part, sub.name, sub.n)
    save_json(folder / SCORES, asdict(outcome))
    for path in folder.glob("*.pth"):
        path.unlink()


def score_run(trainer: Trainer, name: str, n: int) -> Outcome:
    """Score the best weights of a run on its validation part.

    Args:
        trainer: the run.
        name: see `SubRun`.
        n: see `SubRun`.
    """
    cfg = trainer.cfg
    engine = Engine(load_model(run_name(trainer.folder)), cfg.device)
    return _scored(engine, domains(cfg)[0], trainer, name, n, trainer.best_epoch)


def score_start(trainer: Trainer) -> Outcome:
    """Score what a run started from on its validation part."""
    cfg = trainer.cfg
    engine = Engine(load_model(cfg.init_from), cfg.device)
    return _scored(engine, cfg.new_domain_from or domains(cfg)[0], trainer, "start", 0, None)


def _scored(
    engine: Engine, domain: str, trainer: Trainer, name: str, n: int, best_epoch: int | None
) -> Outcome:
    dataset = dataset_to_score(trainer.cfg.data_sources[0], folder=trainer.folder)
    scores = score_dataset(engine, dataset, domain, options=ScoringOptions(METRICS))
    columns = dict(zip(METRICS, scores.rows.T.tolist(), strict=True))
    return Outcome(name, n, best_epoch, columns, scores.titles)


# ---- what came out ------------------------------------------------------------------------
def gaze_dataset(trainer: Trainer) -> GazeSource:
    """Return the training part of a run that can be studied.

    Raises:
        UserError: it is not one folder of gaze data.
    """
    datasets = list(trainer.datasets["train"].values())
    if len(datasets) != 1 or not isinstance(datasets[0], GazeSource):
        raise UserError("folds, curve and observers are for one folder of gaze data, --data=FOLDER")
    return datasets[0]


def mean_and_interval(outcomes: Sequence[Outcome], metric: str) -> tuple[float, float, float]:
    """Return the mean over all stimuli, and its bootstrap 95 % interval.

    Args:
        outcomes: trainings of one kind. Where they were scored on the same stimuli, the mean over
            them is taken for each stimulus first.
        metric: one of `METRICS`.
    """
    values = np.array(list(_per_stimulus(outcomes, metric).values()))
    low, high = np.percentile(_resampled(values), INTERVAL)
    return float(values.mean()), float(low), float(high)


def _per_stimulus(outcomes: Sequence[Outcome], metric: str) -> dict[str, float]:
    """Return the values of a metric by stimulus, each the mean over the trainings."""
    by_title: dict[str, list[float]] = {}
    for outcome in outcomes:
        for title, value in zip(outcome.titles, outcome.scores[metric], strict=True):
            if not math.isnan(value):
                by_title.setdefault(title, []).append(value)
    return {title: float(np.mean(values)) for title, values in by_title.items()}


def _resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of bootstrap resamples."""
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(values), (N_RESAMPLES, len(values)))
    return values[drawn].mean(axis=1)


def gain(fewer: Sequence[Outcome], more: Sequence[Outcome]) -> tuple[float, float, float]:
    """Return by how much the shown metric grew, and the interval, paired by stimulus."""
    before, after = _per_stimulus(fewer, SHOWN), _per_stimulus(more, SHOWN)
    difference = np.array([after[title] - before[title] for title in after if title in before])
    ends = np.percentile(_resampled(difference), INTERVAL)
    return float(difference.mean()), float(ends[0]), float(ends[1])


def by_number(outcomes: Sequence[Outcome]) -> dict[int, list[Outcome]]:
    """Return the trainings by their number, in order."""
    numbers = sorted({outcome.n for outcome in outcomes})
    return {n: [outcome for outcome in outcomes if outcome.n == n] for n in numbers}


def save_study(folder: Path, kind: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Write `<kind>.json` with all scores and `<kind>.csv` with the means.

    Returns:
        The rows of the table.
    """
    rows = []
    for n, same in by_number(outcomes).items():
        row: dict[str, Any] = {"n": n, "trainings": len(same)}
        for metric in METRICS:
            mean, low, high = mean_and_interval(same, metric)
            row |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    save_json(folder / f"{kind}.json", {"table": rows, "trainings": [asdict(o) for o in outcomes]})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / f"{kind}.csv", lambda file: file.write_text(text.getvalue()))
    return rows


def save_chart(
    path: Path, rows: Sequence[Mapping[str, Any]], unit: str, start: Outcome, title: str
) -> None:
    """Draw a curve with its intervals into a PNG.

    Args:
        path: where it goes.
        rows: those of the table.
        unit: what is counted: stimuli or people.
        start: the scores before training.
        title: of the chart.
    """
    names = {"mean": SHOWN, "low": f"{SHOWN}_low", "high": f"{SHOWN}_high"}
    points = [CurvePoint(row["n"], *(row[name] for name in names.values())) for row in rows]
    level = mean_and_interval([start], SHOWN)[0]
    curve = Curve(title, f"{unit} to train on", SHOWN.upper(), points, level, "before training")
    picture = Image.fromarray(draw_curve(curve))
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def lines(rows: Sequence[Mapping[str, Any]], unit: str) -> Iterator[str]:
    """Yield the table as text."""
    yield f"{unit:>8}  " + "  ".join(f"{m.upper():>5}  {'95 %':>14}" for m in METRICS)
    for row in rows:
        cells = [
            f"{row[m]:5.3f}  [{row[f'{m}_low']:5.3f}, {row[f'{m}_high']:5.3f}]" for m in METRICS
        ]
        yield f"{row['n']:>8}  " + "  ".join(cells)


def pooled(outcomes: Sequence[Outcome]) -> str:
    """Give the means over all stimuli, each scored by the training that left it out."""
    said = []
    for metric in METRICS:
        mean, low, high = mean_and_interval(outcomes, metric)
        said.append(f"{metric.upper()} {mean:.3f} [{low:.3f}, {high:.3f}]")
    return f"all stimuli, each left out once: {', '.join(said)}"


def conclusion(outcomes: Sequence[Outcome], unit: str) -> str:
    """Say whether the last step of a curve was a gain that chance does not explain."""
    found = by_number(outcomes)
    fewer, more = list(found)[-2:]
    mean, low, high = gain(found[fewer], found[more])
    said = f"from {fewer} to {more} {unit} {SHOWN.upper()} changed by {mean:+.3f}"
    told = f"{said}, 95 % interval [{low:+.3f}, {high:+.3f}]"
    if low > 0:
        return f"{told}: more {unit} would probably help further"
    return f"{told}: that more {unit} would help cannot be told from these"
