"""The command `score_model`: scores of a run, printed and saved into its folder.

See docs/behaviour.md, "Scoring and prediction".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from unisal.cluster.workers import ONE_PROCESS, Crew, connected, in_order, on_workers
from unisal.commands.crew import Indices, batches, worker_device
from unisal.commands.places import prepare_folder, until_lost
from unisal.commands.progress import TERMINAL
from unisal.config import run_dir, run_dir_to_write, save_json, writable_run_dir
from unisal.data import DATASETS, SaliencyDataset
from unisal.data.inspection import quick_check
from unisal.errors import UserError
from unisal.evaluate.baselines import CentreBias
from unisal.evaluate.comparisons import RUN, compare, compare_groups
from unisal.evaluate.detail import EACH_OBSERVER, SubsetScorer
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.options import ScoringOptions, SubsetOptions
from unisal.evaluate.people import ONE_LEFT_OUT, RUN_ON_ONE
from unisal.evaluate.report import REPORT, write_report
from unisal.evaluate.score_table import write_comparisons, write_scores
from unisal.evaluate.scores import (
    Result,
    Scores,
    SubsetKey,
    format_comparisons,
    format_divisions,
    format_table,
)
from unisal.evaluate.scoring import (
    FrameScorer,
    ScoredFrame,
    dataset_to_score,
    gather_scores,
    make_needed_centre_bias,
    predict_frame,
    score_baselines,
    score_dataset,
    score_frames,
    score_one_left_out,
)
from unisal.evaluate.subsets import Subsets
from unisal.files import require_writable_file
from unisal.inference.engine import Engine
from unisal.inference.views import read_tta
from unisal.predict.datasets import predict_dataset
from unisal.predict.loading import load_network
from unisal.predict.presets import source_domain
from unisal.types import LogDensity

MAX_SHOWN = 20
"""Of how many subsets by one thing, at most, the means are printed."""


def score_model(
    *,
    train_id: str | None,
    sources: Sequence[str],
    model_domain: str | None,
    baselines: bool,
    report: bool,
    device: str,
    options: ScoringOptions,
    tta: str | None = None,
    crew: Crew = ONE_PROCESS,
) -> list[Result]:
    """Score a run on each source, and write the scores into its folder.

    Args:
        train_id: the run; None for the one that ships with the program.
        sources: the data sets; none for those that are scored by default and whose folder exists.
        model_domain: the network domain to use, instead of the one that the run has trained on the
            source, else its default for pictures of unknown origin, else the source's own. The
            names of the files then say so (`DHF1K_as_SALICON_...`).
        baselines: whether to score reference baselines as well, see `score_baselines`.
        report: whether to write a page with the results as well, see `unisal.evaluate.report`.
        device: where to run the network.
        options: how to score.
        tta: see `unisal.inference.engine.Engine`; for a run that is compared with as well. The
            names of the files then say so (`SALICON_tta_mirror_...`).
        crew: the workers that predict and score, if there are to be any. Baselines are scored in
            this process.

    Raises:
        SomeFailed: workers died of a picture or video (killed, or out of memory).
        UserError: a source or run is unknown, data is missing, or a metric cannot be computed on a
            source (before any work is done); or a prediction is not finite.
    """
    read_tta(tta)
    device = worker_device(device, crew)
    folder = run_dir(train_id)
    rival = None if options.against is None else run_dir(options.against)
    datasets = [
        dataset_to_score(source, folder=folder, progress=TERMINAL)
        for source in sources or sources_at_hand()
    ]
    quick_check(datasets)
    _check_places(train_id, datasets, report)
    plans = [_Plan.make(dataset, options, baselines) for dataset in datasets]
    folder = writable_run_dir(train_id)

    @cache
    def model(run: str | None, fine_tuned: bool) -> _Model:
        return _Model.load(run, fine_tuned, device, tta)

    def predict(result: Result, index: int, number: int) -> LogDensity:
        dataset, engine = result.dataset, model(train_id, result.dataset.fine_tuned).engine
        return predict_frame(engine, dataset, result.domain, index, number)

    results: list[Result] = []
    done = lambda: f"{len(results)} of {len(datasets)} data sets"  # noqa: E731
    with (
        until_lost(folder, done, "make room and repeat the command"),
        connected(crew) if crew.is_wanted else nullcontext(),
    ):
        for plan in plans:
            dataset = plan.dataset
            against = None
            if rival is not None:
                other = model(options.against, dataset.fine_tuned)
                against = _Rival.of(other, rival.name, plan, model_domain)
            wanted = model_domain or source_domain(train_id, dataset)
            own = model(train_id, dataset.fine_tuned)
            result = plan.score(own, wanted, model_domain is not None, baselines, crew)
            if against is not None:
                result = plan.compare(result, folder.name, against, crew)
            place = folder / dataset.score_folder(folder)
            save_result(result, place, plan.options, folder.name, own.engine.tta)
            _print_result(result, folder.name, plan.options)
            results.append(result)
        if report:
            write_report(folder / REPORT, folder.name, results, predict, options, TERMINAL)
            print(f"report: {folder / REPORT}")
    return results


class _Model(NamedTuple):
    """A run's network, and what it takes to load it in another process."""

    engine: Engine
    load_again: Callable[[], Engine]

    @classmethod
    def load(cls, run: str | None, fine_tuned: bool, device: str, tta: str | None) -> _Model:
        again = partial(_load_engine, run, fine_tuned, device, tta)
        return cls(again(), again)


def _load_engine(run: str | None, fine_tuned: bool, device: str, tta: str | None) -> Engine:
    return Engine(load_network(run, fine_tuned=fine_tuned), device, tta=tta)


class _Plan(NamedTuple):
    """How one data set is scored; made before any long work, so that mistakes are found."""

    dataset: SaliencyDataset
    options: ScoringOptions
    centre_bias: CentreBias | None
    gaze: Gaze
    scorer: SubsetScorer | None
    in_detail: bool

    @classmethod
    def make(cls, dataset: SaliencyDataset, options: ScoringOptions, baselines: bool) -> _Plan:
        """Make a plan, and what it needs besides the predictions."""
        options, gaze, asked = options.adapted_to(dataset), Gaze(dataset), options.subsets
        in_detail = dataset.scored_in_detail or (asked is not None and asked.by is not None)
        each = baselines and in_detail and gaze.tells_people_apart()
        scorer = None
        if each or (asked is not None and in_detail):
            subsets = Subsets(dataset, gaze, asked or SubsetOptions(by=()))
            scorer = SubsetScorer(subsets, options, each)
        centre_bias = make_needed_centre_bias(dataset, options, TERMINAL)
        return cls(dataset, options, centre_bias, gaze, scorer, in_detail)

    def score(self, model: _Model, wanted: str, named: bool, baselines: bool, crew: Crew) -> Result:
        """Score the run, and the baselines if they are wanted.

        Args:
            model: its network.
            wanted: the network domain.
            named: whether the files say which domain it was.
            baselines: whether to score the baselines.
            crew: the workers, if there are to be any.
        """
        dataset, options, centre_bias = self.dataset, self.options, self.centre_bias
        engine = model.engine
        domain = engine.domain(wanted)
        name = dataset.score_name + (f"_as_{domain}" if named else "")
        name = "_".join([name, *(["tta"] if engine.tta else []), *engine.tta])
        scores = self._scores(model, domain, name, self.scorer, crew)
        subsets = {} if self.scorer is None else self.scorer.scores(scores.titles)
        each_observer = subsets.pop(EACH_OBSERVER, None)
        others: dict[str, Scores] = {}
        of_others: dict[str, dict[SubsetKey, Scores]] = {}
        if baselines:
            shared = dataset, options, centre_bias, TERMINAL
            others = score_baselines(*shared, in_detail=self.in_detail)
            if each_observer is not None:
                others[RUN_ON_ONE] = each_observer
                others[ONE_LEFT_OUT], of_others[ONE_LEFT_OUT] = score_one_left_out(*shared)
        result = Result(dataset, domain, scores, others, subsets, of_others)
        for by, groups in result.divisions.items():
            if by in dataset.groups:
                pairs = compare_groups(by, list(groups.values()), options.random_seed)
                result.comparisons.extend(pairs)
        return result

    def compare(self, result: Result, run: str, rival: _Rival, crew: Crew) -> Result:
        """Add the scores of another run, and tests of the first one against it."""
        first, second = f"{run} ({result.domain})", f"{rival.name} ({rival.domain})"
        against = self._scores(rival.model, rival.domain, second, None, crew)
        tests = compare(RUN, replace(result.scores, name=first), against, self.options.random_seed)
        return replace(result, against=against, comparisons=[*tests, *result.comparisons])

    def _scores(
        self, model: _Model, domain: str, name: str, subsets: SubsetScorer | None, crew: Crew
    ) -> Scores:
        """Predict and score every frame, here or on workers: the same numbers."""
        how = self.options, self.centre_bias
        if not crew.is_wanted:
            return score_dataset(model.engine, self.dataset, domain, name, *how, TERMINAL, subsets)
        model.engine.warm_up(domain, self.dataset.is_video)  # once, and not in each worker
        start = partial(start_scoring, model.load_again, self.dataset, domain, *how, subsets)
        tasks = batches(range(len(self.dataset.lengths())), self.dataset.is_video)
        with (
            connected(crew) as n,
            closing(on_workers(start, tasks, n, gpus=crew.gpus)) as all_done,
        ):
            scored: Iterator[list[ScoredFrame]] = in_order(all_done, tasks)
            frames = chain.from_iterable(scored)
            return gather_scores(self.dataset, frames, name, self.options, TERMINAL, subsets)


def start_scoring(
    load: Callable[[], Engine],
    dataset: SaliencyDataset,
    domain: str,
    options: ScoringOptions,
    centre_bias: CentreBias | None,
    subsets: SubsetScorer | None,
) -> Callable[[Indices], list[ScoredFrame]]:
    """Load the network in a worker; return the function that scores some of a data set there.

    Args:
        load: loads the network.
        dataset: what is scored.
        domain: the network domain to use.
        options: how to score.
        centre_bias: that of the training part, where it is needed.
        subsets: scores subsets of the gaze, too.
    """
    engine, scorer = load(), FrameScorer(dataset, options, centre_bias, subsets)

    def do(chosen: Indices) -> list[ScoredFrame]:
        predictions = predict_dataset(engine, dataset, domain, size="target", chosen=chosen)
        return list(score_frames(scorer, predictions))

    return do


class _Rival(NamedTuple):
    """Another run, to be compared with."""

    model: _Model
    name: str
    domain: str

    @classmethod
    def of(cls, model: _Model, name: str, plan: _Plan, model_domain: str | None) -> _Rival:
        """Choose its domain: the named one, else the scored run's, else the source's own."""
        named, known = plan.options.against_domain, model.engine.sources
        if named is not None and named not in known:
            raise UserError(
                f"against_domain is {named!r}; {name} has the domains {', '.join(known)}"
            )
        if named is None and model_domain in known:
            named = model_domain
        usual = source_domain(plan.options.against, plan.dataset)
        return cls(model, name, model.engine.domain(named or usual))


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


def _print_result(result: Result, run: str, options: ScoringOptions) -> None:
    """Print scores, those of subsets, and tests."""
    others = {} if result.against is None else {result.against.name: result.against}
    print(format_table(run, result.scores, others | result.baselines, options.random_seed))
    for text in (format_divisions(result, MAX_SHOWN), format_comparisons(result.comparisons)):
        if text:
            print(text)


def save_result(
    result: Result, folder: Path, options: ScoringOptions, run: str, tta: Sequence[str] = ()
) -> None:
    """Write the files of scores, and `<name>_eval_summary.json` with everything else.

    Where subsets or another run were scored too, the tables `<name>_eval_table.csv` and, with
    tests, `<name>_eval_tests.csv` as well.
    """
    scores, seed = result.scores, options.random_seed
    scores.save(folder)
    summary: dict[str, Any] = {
        "source": result.dataset.source,
        "phase": result.dataset.phase,
        "model_domain": result.domain,
        **({"tta": list(tta)} if tta else {}),
        "metrics": list(scores.metrics),
        "auc_portion": options.auc_portion,
        "n_aucs_maps": options.n_aucs_maps,
        "random_seed": seed,
        **scores.summary(seed),
        "baselines": {name: other.summary(seed) for name, other in result.baselines.items()},
        "videos": list(scores.titles),
    }
    if result.subsets:
        summary["subsets"] = {
            by: {name: subset.summary(seed) for name, subset in subsets.items()}
            for by, subsets in result.divisions.items()
        }
    if result.against is not None:
        summary["against"] = {"run": result.against.name, **result.against.summary(seed)}
    if result.comparisons:
        summary["tests"] = [found.as_json() for found in result.comparisons]
        write_comparisons(folder / f"{scores.name}_eval_tests.csv", result.comparisons)
    if result.subsets or result.against is not None or result.dataset.scored_in_detail:
        write_scores(folder / f"{scores.name}_eval_table.csv", result, run)
    save_json(folder / f"{scores.name}_eval_summary.json", summary)


def sources_at_hand() -> list[str]:
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
