"""Settings that differ per source: from a run's options, else from the source's class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unisal.data import DATASETS, find_dataset
from unisal.errors import UserError
from unisal.train.config import PER_SOURCE, PUBLISHED_KEYS, TrainerConfig


def check_sources(cfg: TrainerConfig) -> None:
    """Check that the sources in a run's options exist and can be trained on.

    Raises:
        UserError: one does not exist or cannot be trained on; lists the known ones.
    """
    known = [source for source, dataset in DATASETS.items() if dataset.public_ground_truth]
    options = {option: getattr(cfg, option) for option in ("data_sources", *PER_SOURCE)}
    for option, sources in options.items():
        if strange := [source for source in sources if source not in known]:
            raise UserError(
                f"{option}: {', '.join(strange)} cannot be trained on; known are {', '.join(known)}"
            )


def dataset_options(cfg: TrainerConfig, source: str) -> dict[str, Any]:
    """Return the keyword arguments of a source's data set that a run sets."""
    options: dict[str, Any] = {"augment": cfg.augment} if cfg.augment else {}
    if cfg.debug:
        options["subset"] = find_dataset(source).debug_subset
    return options | dict(cfg.dataset_options.get(source, {}))


def batch_size(cfg: TrainerConfig, source: str, phase: str = "train") -> int:
    """Return the number of examples in a source's batches."""
    dataset = find_dataset(source)
    if phase == "valid":
        of_valid = cfg.valid_batch_sizes.get(source, dataset.valid_batch_size)
        if of_valid is not None:
            return of_valid
    return cfg.batch_sizes.get(source, dataset.batch_size)


def loss_factor(cfg: TrainerConfig, source: str) -> float:
    """Return what the loss of a source is multiplied by."""
    if not cfg.weigh_sources:
        return 1.0
    return cfg.loss_factors.get(source, find_dataset(source).loss_weight)


def saved_options(cfg: TrainerConfig) -> dict[str, Any]:
    """Return all options as `Trainer.json` holds them.

    Options with a published key are always included, whether or not they were given, so that
    published programs can read the file and a source's class may change. The rest stays in the
    mappings per source, which are left out if they are empty.
    """
    options = cfg.as_dict()
    in_mappings: dict[str, dict[str, Any]] = {option: options.pop(option) for option in PER_SOURCE}
    of_source: Mapping[str, Any] = {
        "batch_sizes": lambda source: batch_size(cfg, source),
        "valid_batch_sizes": lambda source: batch_size(cfg, source, "valid"),
        "dataset_options": lambda source: dict(cfg.dataset_options.get(source, {})),
        "loss_factors": lambda source: cfg.loss_factors.get(source, DATASETS[source].loss_weight),
    }
    for key, (option, source) in PUBLISHED_KEYS.items():
        options[key] = of_source[option](source)
        in_mappings[option].pop(source, None)
    return options | {option: values for option, values in in_mappings.items() if values}
