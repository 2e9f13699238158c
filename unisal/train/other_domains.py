"""What training one domain did to the others that share its network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

from unisal.data import DATASETS, Batch, SaliencyDataset
from unisal.data.samplers import make_loader
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.progress import SILENT, Progress
from unisal.train import epoch as passes
from unisal.train.domains import domains
from unisal.train.losses import LOSSES, cc
from unisal.train.runs import load_run
from unisal.train.sources import batch_size
from unisal.train.trainer import Trainer

MAX_BATCHES = 25
"""As many batches of each data set are looked at, at most."""


def compare_others(trainer: Trainer, progress: Progress = SILENT) -> Iterator[str]:
    """Compare the domains that a run did not train with what they were at its start.

    Args:
        trainer: the run, trained.
        progress: shows how far the comparison has come.

    Yields:
        A line for each other domain: how its predictions of the run's own validation part correlate
        with those before; and for each published source of another domain whose folder is there:
        the losses of its validation part before and after.
    """
    cfg = trainer.cfg
    before, after = load_run(cfg.init_from), load_run(trainer.train_id)
    others = [d for d in after.sources if d in before.sources and d not in domains(cfg)]
    own = [batch for d in trainer.datasets["valid"].values() for batch in _batches(trainer, d)]
    with progress.bar("other domains", "domain", len(others), keep=False) as bar:
        for domain in others:
            bar.update()
            yield (
                f"{domain}: CC {_correlation(before, after, own, domain):.3f} between its "
                "predictions of the validation part before and after"
            )
    for dataset in _known_sources(others):
        yield f"{dataset.source}: {_change(trainer, before, after, dataset)} before -> after"


def _known_sources(others: list[str]) -> Iterator[SaliencyDataset]:
    """Yield the validation parts at hand that belong to other domains."""
    for kind in DATASETS.values():
        if kind.public_ground_truth and kind.domain in others and kind.is_there():
            try:
                yield kind.from_options({}, phase="valid")
            except UserError:  # what lies there is not needed for anything else
                continue


def _batches(trainer: Trainer, dataset: SaliencyDataset) -> Iterator[Batch]:
    """Yield the first batches of a validation part."""
    n = batch_size(trainer.cfg, dataset.source, "valid")
    loader = make_loader(dataset, n, num_workers=0, pin_memory=False)
    return islice(loader, MAX_BATCHES)


@torch.no_grad()
def _correlation(before: UNISAL, after: UNISAL, batches: list[Batch], domain: str) -> float:
    """Return the mean correlation of two networks' predictions with one domain."""
    found = []
    for batch in batches:
        static = not batch.is_video or domain in after.image_domains
        first, second = (
            model(batch.frames, batch.target_size, source=domain, static=static)
            for model in (before, after)
        )
        found.append(cc(second, second.exp(), first.exp(), batch.fixations).flatten())
    return torch.cat(found).mean().item()


def _change(trainer: Trainer, before: UNISAL, after: UNISAL, dataset: SaliencyDataset) -> str:
    """Give the losses of a source before and after, by name."""
    weights = dict.fromkeys(LOSSES, 1.0)
    batches = list(_batches(trainer, dataset))
    losses = [passes.validate_epoch(m, batches, weights)[dataset.source] for m in (before, after)]
    names = {name: f"loss_{i}" for i, name in enumerate(weights)}
    said = [f"{n.upper()} {losses[0][k]:.3f} -> {losses[1][k]:.3f}" for n, k in names.items()]
    return f"{', '.join(said)} on {sum(len(batch.names) for batch in batches)} examples"
