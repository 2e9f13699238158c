"""What follows a training run: scores where the gaze is public, predictions where it is not."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from unisal.commands.progress import TERMINAL
from unisal.commands.scoring import score_model
from unisal.data import SaliencyDataset, find_dataset
from unisal.data.base import TRAINING_OPTIONS
from unisal.errors import UserError
from unisal.evaluate.options import ScoringOptions

log = logging.getLogger(__name__)


def sources_to_evaluate(
    *, named: Sequence[str], default: Sequence[str], trained: Mapping[str, SaliencyDataset]
) -> tuple[str, ...]:
    """Choose, before training, what to evaluate afterwards.

    Args:
        named: the sources that were asked for; all of them have to exist.
        default: used if none was asked for; a source whose folder is missing is skipped with a
            warning.
        trained: the data sets that are trained on, by source: they will be evaluated with the same
            options.

    Raises:
        UserError: a source is unknown, or its data is missing or faulty.
    """
    chosen = []
    for source in named or default:
        dataset = find_dataset(source)
        try:
            if not named:
                dataset.root()
        except UserError as error:
            log.warning("%s will not be evaluated: %s", source, error)
            continue
        options = trained[dataset.source].config if dataset.source in trained else {}
        read = {k: v for k, v in options.items() if k not in TRAINING_OPTIONS}
        phase = dataset.scored_phase if dataset.public_ground_truth else "test"
        dataset.from_options(read, progress=TERMINAL, phase=phase)
        chosen.append(source)
    return tuple(chosen)


def evaluate(*, train_id: str, sources: Sequence[str], device: str) -> None:
    """Score a run on each source, or write predictions for sources without public gaze.

    Args:
        train_id: the run.
        sources: names of the sources.
        device: where to run the network.
    """
    datasets = list(dict.fromkeys(find_dataset(source) for source in sources))
    scored = [d.source for d in datasets if d.public_ground_truth]
    predicted = [d.source for d in datasets if not d.public_ground_truth]
    if scored:
        score_model(
            train_id=train_id,
            sources=scored,
            model_domain=None,
            baselines=False,
            report=False,
            device=device,
            options=ScoringOptions(),
        )
    if predicted:
        from unisal.commands.generate import generate_predictions

        for source in predicted:
            print(
                f"{source}: where people looked is not public, so no score can be computed; "
                "predictions are written"
            )
        # Predictions made with the weights before training are of no use any more.
        generate_predictions(
            train_id=train_id,
            sources=predicted,
            phase=None,
            model_domain=None,
            smooth_method=None,
            x_val_step=None,
            overwrite=True,
            device=device,
        )
