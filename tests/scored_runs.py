"""Scores a run as the command does, with its defaults."""

from __future__ import annotations

from unisal.commands.scoring import score_model
from unisal.evaluate.options import ScoringOptions


def score_run(train_id="mine", sources=("SALICON",), options=None, **chosen):
    """Score a run on the CPU; return the results."""
    given = {"model_domain": None, "baselines": False, "report": False, "device": "cpu"}
    options = options or ScoringOptions()
    return score_model(train_id=train_id, sources=sources, options=options, **{**given, **chosen})
