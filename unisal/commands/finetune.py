"""The command `finetune`: a domain of one's own, trained and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unisal.commands.progress import TERMINAL
from unisal.commands.scoring import score_model
from unisal.commands.training import check_files, fit
from unisal.data.inspection import quick_check
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions
from unisal.evaluate.scoring import dataset_to_score
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
    eval_sources: Sequence[str],
    resume: str | None,
    options: Mapping[str, Any],
) -> None:
    """Train a domain, score it, and tell what became of the other domains.

    Args:
        data: the sources that train it.
        domain: its name.
        init_from: see `unisal.train.own_domain.domain_options`.
        base: the run to start from.
        trains: "modules", "decoder" or "all".
        eval_sources: what to score; none for the data.
        resume: name of a run to continue; None for a new one.
        options: other options of `Trainer`, or changes to the options of the run.

    Raises:
        UserError: an option is wrong, or data is missing or damaged (before training starts); or a
            loss is not finite.
    """
    if resume is not None:
        trainer = Trainer.resume(resume, progress=TERMINAL, **options)
    elif not data or domain is None:
        raise UserError("finetune needs --data, what to train on, and --domain, a name for it")
    else:
        chosen = domain_options(data, domain, init_from, base, trains, options)
        trainer = Trainer(progress=TERMINAL, **chosen)
    sources = eval_sources or trainer.cfg.data_sources
    check_files(trainer)
    quick_check(dataset_to_score(source, progress=TERMINAL) for source in sources)
    print(f"{trainer.train_id}: trains {trainer.n_trained:,} of {trainer.n_parameters:,} numbers")
    fit(trainer)
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
