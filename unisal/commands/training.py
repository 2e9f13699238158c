"""The commands `train`, `train_finetune_mit` and `average`: runs, and what follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unisal.commands.after_training import evaluate, sources_to_evaluate
from unisal.commands.places import prepare_folder, until_lost
from unisal.commands.progress import TERMINAL
from unisal.commands.scoring import score_model
from unisal.config import run_dir_to_write, train_dir
from unisal.data.inspection import quick_check
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scoring import dataset_to_score
from unisal.memory import keep_freed_memory
from unisal.train import Trainer
from unisal.train.config import TrainerConfig
from unisal.train.finetune import FineTuner
from unisal.train.loop import EpochLoop
from unisal.train.soup import average_runs

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
    if resume is None:
        trainer = Trainer(progress=TERMINAL, **options)
    else:
        trainer = Trainer.resume(resume, progress=TERMINAL, **options)
    sources = eval_sources or trainer.cfg.data_sources
    # Missing and damaged files, and a place that cannot be written, are found before the training.
    prepare_folder(trainer.folder, PLACE_ADVICE)
    check_files(trainer)
    quick_check(dataset_to_score(source, progress=TERMINAL) for source in sources)
    fit(trainer, f"make room, then continue with --resume={trainer.train_id}")
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
    tuner = FineTuner(progress=TERMINAL, **options)
    sources = sources_to_evaluate(
        named=eval_sources, default=EVALUATED_BY_DEFAULT, trained=tuner.datasets["valid"]
    )
    prepare_folder(run_dir_to_write(tuner.train_id), PLACE_ADVICE)
    check_files(tuner)
    fit(tuner, "make room and repeat the command")
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
        loop.fit(progress=TERMINAL)
