"""The command `score_model`: scores of a run, printed and saved into its folder.

See docs/behaviour.md, "Scoring and prediction".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from unisal.commands.places import prepare_folder, until_lost
from unisal.commands.progress import TERMINAL
from unisal.config import run_dir, run_dir_to_write, save_json, writable_run_dir
from unisal.data import DATASETS, SaliencyDataset
from unisal.data.inspection import quick_check
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.report import REPORT, write_report
from unisal.evaluate.scores import Result, format_table
from unisal.evaluate.scoring import (
    dataset_to_score,
    make_needed_centre_bias,
    predict_frame,
    score_baselines,
    score_dataset,
)
from unisal.files import require_writable_file
from unisal.inference.engine import Engine
from unisal.predict.loading import load_model
from unisal.predict.presets import trained_domain
from unisal.types import LogDensity


def score_model(
    *,
    train_id: str | None,
    sources: Sequence[str],
    model_domain: str | None,
    baselines: bool,
    report: bool,
    device: str,
    options: ScoringOptions,
) -> list[Result]:
    """Score a run on each source, and write the scores into its folder.

    Args:
        train_id: the run; None for the one that ships with the program.
        sources: the data sets; none for those that are scored by default and whose folder exists.
        model_domain: the network domain to use, instead of the one that the run has trained on the
            source, or the source's own. The names of the files then say so
            (`DHF1K_as_SALICON_...`).
        baselines: whether to score reference baselines as well, see `score_baselines`.
        report: whether to write a page with the results as well, see `unisal.evaluate.report`.
        device: where to run the network.
        options: how to score.

    Raises:
        UserError: a source or run is unknown, data is missing, or a metric cannot be computed on a
            source (before any work is done); or a prediction is not finite.
    """
    folder = run_dir(train_id)
    datasets = [
        dataset_to_score(source, folder=folder, progress=TERMINAL)
        for source in sources or _sources_at_hand()
    ]
    quick_check(datasets)
    _check_places(train_id, datasets, report)
    centre_biases = [make_needed_centre_bias(dataset, options, TERMINAL) for dataset in datasets]
    folder = writable_run_dir(train_id)

    @cache
    def engine(fine_tuned: bool) -> Engine:
        return Engine(load_model(train_id, fine_tuned=fine_tuned), device)

    def predict(result: Result, index: int, number: int) -> LogDensity:
        dataset = result.dataset
        return predict_frame(engine(dataset.fine_tuned), dataset, result.domain, index, number)

    results: list[Result] = []
    done = lambda: f"{len(results)} of {len(datasets)} data sets"  # noqa: E731
    with until_lost(folder, done, "make room and repeat the command"):
        for dataset, centre_bias in zip(datasets, centre_biases, strict=True):
            network = engine(dataset.fine_tuned)
            trained = trained_domain(train_id, dataset.source)
            domain = network.domain(model_domain or trained or dataset.domain)
            name = dataset.score_name + (f"_as_{domain}" if model_domain else "")
            scores = score_dataset(network, dataset, domain, name, options, centre_bias, TERMINAL)
            others = score_baselines(dataset, options, centre_bias, TERMINAL) if baselines else {}
            result = Result(dataset, domain, scores, others)
            save_result(result, folder / dataset.score_folder(folder), options)
            print(format_table(folder.name, scores, others, options.random_seed))
            results.append(result)
        if report:
            write_report(folder / REPORT, folder.name, results, predict, options, TERMINAL)
            print(f"report: {folder / REPORT}")
    return results


def _check_places(train_id: str | None, datasets: Sequence[SaliencyDataset], report: bool) -> None:
    """Check that the scores can be written.

    Raises:
        UserError: a folder or file cannot be; names it.
    """
    folder = run_dir_to_write(train_id)
    advice = (
        "scores go into the folder of the run: copy it to where it can be written, and name the "
        "folder above it in TRAIN_DIR"
    )
    for place in dict.fromkeys(folder / dataset.score_folder(folder) for dataset in datasets):
        prepare_folder(place, advice)
    if report:
        require_writable_file(folder / REPORT, advice)


def save_result(result: Result, folder: Path, options: ScoringOptions) -> None:
    """Write the files of scores, and `<name>_eval_summary.json` with everything else."""
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
    """Return the sources scored by default whose folder exists; print which are missing."""
    found, missing = [], []
    for dataset in DATASETS.values():
        if not (dataset.scored_by_default and dataset.public_ground_truth):
            continue
        try:
            dataset.root()
            found.append(dataset.source)
        except UserError as error:
            missing.append(str(error))
    if not found:
        raise UserError(f"there is nothing to score on: {'; '.join(missing)}")
    for message in missing:
        print(f"not scored: {message}")
    return found
