"""The commands `train`, `train_finetune_mit` and `average`: runs, and what follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unisal.commands.after_training import evaluate, sources_to_evaluate
from unisal.commands.places import prepare_folder, until_lost
from unisal.commands.processes import all_processes, is_restart, may_restart, progress_of
from unisal.commands.progress import TERMINAL
from unisal.commands.scoring import score_model
from unisal.config import run_dir_to_write, train_dir
from unisal.data.inspection import quick_check
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scoring import dataset_to_score
from unisal.memory import keep_freed_memory
from unisal.train import Trainer
from unisal.train.config import TrainerConfig
from unisal.train.finetune import FineTuner
from unisal.train.loop import EpochLoop
from unisal.train.processes import Processes
from unisal.train.soup import average_runs
from unisal.train.trainer import CHANGEABLE_OPTIONS

EVALUATED_BY_DEFAULT = ("MIT300",)
"""The sources that a fine-tuned run is evaluated on if none is named."""
PLACE_ADVICE = "name a folder for runs that can be written in TRAIN_DIR"


def train(*, eval_sources: Sequence[str], resume: str | None, options: Mapping[str, Any]) -> None:
    """Train the network, then score it.

    Args:
        eval_sources: what to score; none for what was trained on.
        resume: name of a run to continue; None for a new one.
        options: those of `Trainer`, or changes to the options of the run.

    Raises:
        UserError: an option is wrong, or data is missing or damaged (before training starts); or a
            loss is not finite.
    """
    with all_processes(options) as processes:
        trainer = trainer_of(resume, options, processes)
        sources = eval_sources or trainer.cfg.data_sources
        if processes.is_first:
            check_before(trainer, sources)
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


def fine_tune(*, eval_sources: Sequence[str], options: Mapping[str, Any]) -> None:
    """Fine-tune a run on MIT1003, then evaluate it.

    Args:
        eval_sources: what to evaluate; none for MIT300, if its folder exists.
        options: those of `FineTuner`.

    Raises:
        UserError: see `train`.
    """
    with all_processes(options) as processes:
        tuner = FineTuner(progress=progress_of(processes), **options)
        if processes.is_first:
            sources = sources_to_evaluate(
                named=eval_sources, default=EVALUATED_BY_DEFAULT, trained=tuner.datasets["valid"]
            )
            prepare_folder(run_dir_to_write(tuner.train_id), PLACE_ADVICE)
            check_files(tuner)
        fit(tuner, "make room and repeat the command")
    if not processes.is_first:
        return
    evaluate(train_id=tuner.train_id, sources=sources, device=tuner.cfg.device)


def average(*, train_ids: Sequence[str], prefix: str) -> None:
    """Average the weights of runs into a new one.

    Args:
        train_ids: the runs.
        prefix: the beginning of the new run's name.

    Raises:
        UserError: see `unisal.train.soup.average_runs`; or the new run cannot be written.
    """
    folder = train_dir() / f"{prefix}_{TrainerConfig.suffix}"
    prepare_folder(folder.parent, PLACE_ADVICE)
    average_runs(train_ids, folder)
    print(f"{folder.name}: the mean of {', '.join(train_ids)}")


def trainer_of(resume: str | None, options: Mapping[str, Any], processes: Processes) -> Trainer:
    """Make the trainer of a new run or of one that is continued.

    Where torchrun has started the processes anew, the run that they had begun is continued.

    Args:
        resume: name of a run to continue; None for a new one.
        options: those of `Trainer`, or changes to the options of the run.
        processes: those that train it.

    Raises:
        UserError: see `Trainer`; or torchrun may start the processes anew, and the run has no name
            by which it would be found then.
    """
    progress = progress_of(processes)
    if resume is not None:
        return Trainer.resume(resume, progress=progress, **options)
    if may_restart() and not options.get("prefix"):
        raise UserError(
            "prefix is not given: with --max-restarts the run needs a name, so that processes that "
            "are started anew find it"
        )
    begun = Trainer.begun(**options) if is_restart() else None
    if begun is None:
        return Trainer(progress=progress, **options)
    changes = {name: options[name] for name in CHANGEABLE_OPTIONS if name in options}
    return Trainer.resume(begun, progress=progress, **changes)


def check_before(trainer: Trainer, sources: Sequence[str]) -> None:
    """Find a place that cannot be written, and missing and damaged files, before the training.

    Args:
        trainer: the run.
        sources: what will be scored afterwards.

    Raises:
        UserError: there are some; names them.
    """
    prepare_folder(trainer.folder, PLACE_ADVICE)
    check_files(trainer)
    quick_check(dataset_to_score(source, progress=TERMINAL) for source in sources)


def check_files(loop: EpochLoop) -> None:
    """Find missing and damaged files of a run's data before the training.

    Raises:
        UserError: there are some; names them.
    """
    quick_check(dataset for part in loop.datasets.values() for dataset in part.values())


def fit(loop: EpochLoop, advice: str) -> None:
    """Train; where nothing can be written any more, say how far it came and how to go on."""
    if loop.device.type == "cpu":
        keep_freed_memory()
    done = lambda: f"{loop.epoch} of {loop.cfg.num_epochs} epochs"  # noqa: E731
    with until_lost(loop.folder, done, advice):
        loop.fit(progress=progress_of(loop.processes))
