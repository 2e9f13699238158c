"""The command `finetune`: a domain of one's own, trained and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unisal.commands import studies
from unisal.commands.processes import all_processes, n_processes
from unisal.commands.progress import TERMINAL
from unisal.commands.scoring import score_model
from unisal.commands.studies import SubRun
from unisal.commands.training import check_before, fit, trainer_of
from unisal.data import find_dataset
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions
from unisal.predict.presets import default_preset, find_preset, run_presets
from unisal.train import Trainer
from unisal.train.other_domains import compare_others
from unisal.train.own_domain import domain_options


def finetune(
    *,
    data: Sequence[str],
    domain: str | None,
    init_from: str | None,
    base: str | None,
    trains: str,
    folds: int | None,
    curve: Sequence[int] | None,
    observers: Sequence[int] | None,
    eval_sources: Sequence[str],
    resume: str | None,
    options: Mapping[str, Any],
    frame_by_frame: bool = False,
) -> None:
    """Train a domain, score it, and tell what became of the other domains.

    Args:
        data: the sources that train it.
        domain: its name; None if `options` have `own_domains` or `shared_domain`.
        init_from: see `unisal.train.own_domain.domain_options`.
        base: the run to start from.
        trains: "modules", "recurrent", "decoder" or "all".
        folds: the number of folds of a cross-validation; None for none.
        curve: the numbers of stimuli of a learning curve; none for halves, None for no curve.
        observers: likewise of people.
        eval_sources: what to score; none for the data.
        resume: name of a run to continue; None for a new one.
        options: other options of `Trainer`, or changes to the options of the run.
        frame_by_frame: see `unisal.train.own_domain.domain_options`.

    Raises:
        UserError: an option is wrong, or data is missing or damaged (before training starts); or a
            loss is not finite.
    """
    studied = folds is not None or curve is not None or observers is not None
    if studied and n_processes() > 1:
        raise UserError(
            "folds, curve and observers train many runs one after the other, in one process: train "
            "first, then give them with --resume and without torchrun"
        )
    with all_processes(options) as processes:
        if resume is not None:
            chosen = dict(options)
        elif not data or not (domain or options.get("own_domains") or options.get("shared_domain")):
            raise UserError(
                "finetune needs --data, what to train on, and --domain, a name for it; or "
                "--own_domains=True, --shared_domain or both"
            )
        else:
            usual = _usual_domain(data, base)
            chosen = domain_options(
                data, domain, init_from, base, trains, options, frame_by_frame, usual
            )
        trainer = trainer_of(resume, chosen, processes)
        planned = _plan_studies(trainer, folds, curve, observers)
        sources = eval_sources or trainer.cfg.data_sources
        if processes.is_first:
            check_before(trainer, sources)
            n_trained, n_all = trainer.n_trained, trainer.n_parameters
            print(f"{trainer.train_id}: trains {n_trained:,} of {n_all:,} numbers")
        fit(trainer, f"make room, then continue with --resume={trainer.train_id}")
    if not processes.is_first:
        return
    score_model(
        train_id=trainer.train_id,
        sources=sources,
        model_domain=None,
        baselines=False,
        report=False,
        device=trainer.cfg.device,
        options=ScoringOptions(),
    )
    if trainer.cfg.trains != "modules":
        for line in compare_others(trainer, TERMINAL):
            print(line)
    for kind, runs in planned.items():
        _study(trainer, kind, runs)


def _usual_domain(data: Sequence[str], base: str | None) -> str:
    """Return the domain with which a run predicts pictures, or films, of unknown origin."""
    is_video = find_dataset(data[0]).is_video
    name = default_preset(base, is_video)
    return find_preset(name, for_images=not is_video, own=run_presets(base)).domain


def _plan_studies(
    trainer: Trainer,
    folds: int | None,
    curve: Sequence[int] | None,
    observers: Sequence[int] | None,
) -> dict[str, list[SubRun]]:
    """Return the trainings of each study that was asked for; mistakes are found before any work."""
    planned = {}
    if folds is not None:
        studies.gaze_dataset(trainer)
        planned["folds"] = studies.fold_runs(folds)
    if curve is not None:
        planned["curve"] = studies.curve_runs(studies.gaze_dataset(trainer), curve or None)
    if observers is not None:
        data = studies.gaze_dataset(trainer)
        planned["observers"] = studies.observer_runs(data, observers or None)
    return planned


def _study(trainer: Trainer, kind: str, runs: Sequence[SubRun]) -> None:
    """Train what a study needs, save what came out, and print it."""
    unit = {"folds": "fold", "curve": "stimuli", "observers": "people"}[kind]
    outcomes = studies.run_study(trainer, kind, runs)
    if kind == "folds":
        rows = studies.save_study(trainer.folder, kind, outcomes)
        print("\n".join([*studies.lines(rows, unit), studies.pooled(outcomes)]))
        return
    data = studies.gaze_dataset(trainer)
    whole = len(data) if kind == "curve" else len(data.observers)
    outcomes.append(studies.score_run(trainer, "all", whole))
    rows = studies.save_study(trainer.folder, kind, outcomes)
    start = studies.score_start(trainer)
    title = f"{data.source}, {trainer.cfg.trains}"
    studies.save_chart(trainer.folder / f"{kind}.png", rows, unit, start, title)
    print("\n".join([*studies.lines(rows, unit), studies.conclusion(outcomes, unit)]))
