"""What a run is made of, from its options: datasets, network, loaders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from unisal.config import build
from unisal.data import DATASETS, Batch, SaliencyDataset
from unisal.data.samplers import make_loader
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import find_weights, load_state, read_state
from unisal.train.config import TrainerConfig


def make_datasets(cfg: TrainerConfig, phase: str) -> dict[str, SaliencyDataset]:
    """-> the datasets of a phase by source; each draws from a random stream of its own.

    Raises:
        UserError: an unknown source, or data that is missing or faulty.
    """
    known = [source for source, dataset in DATASETS.items() if dataset.public_ground_truth]
    unknown = [s for s in cfg.data_sources if s not in known]
    if unknown:
        raise UserError(
            f"data_sources: {', '.join(unknown)} cannot be trained on; known are {', '.join(known)}"
        )
    return {
        source: DATASETS[source].from_options(
            cfg.dataset_options(source), phase=phase, seed=(cfg.seed, number)
        )
        for number, source in enumerate(cfg.data_sources)
    }


def make_model(cfg: TrainerConfig, goes_on: bool = False) -> UNISAL:
    """-> the network at its start: from ImageNet's encoder, or from the run that `init_from` names.

    Args:
        cfg: the run's options.
        goes_on: weights of a checkpoint will be loaded into it; no other ones are read.

    Raises:
        UserError: an option or weights that do not fit; names them.
    """
    options = {"sources": domains(cfg), **cfg.model_cfg}
    if goes_on or cfg.init_from:
        options["cnn_cfg"] = {**(options.get("cnn_cfg") or {}), "pretrained": False}
    try:
        model = build(UNISAL, options)
    except ValueError as error:
        raise UserError(f"model_cfg: {error}") from None
    _check_sources(cfg, model)
    if cfg.init_from and not goes_on:
        weights = find_weights(cfg.init_from)
        load_state(model, read_state(weights), str(weights))
    return model


def place_model(model: UNISAL, device: torch.device) -> UNISAL:
    """-> the network on the device where it will train, laid out as is fastest there."""
    if device.type == "cpu":  # a quarter less time for a step on images (measured)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def make_loaders(
    cfg: TrainerConfig, datasets: Mapping[str, SaliencyDataset], epoch: int, device: torch.device
) -> dict[str, DataLoader[Batch]]:
    """-> the batches of an epoch by source."""
    workers = min(cfg.num_workers, n_cores())
    loaders = {}
    for source, dataset in datasets.items():
        dataset.epoch = epoch
        batch_size = cfg.batch_size_of(source, dataset.phase)
        loaders[source] = make_loader(dataset, batch_size, workers, device.type == "cuda")
    return loaders


def kept_options(dataset: SaliencyDataset) -> dict[str, Any]:
    """-> what of a dataset's options a run keeps as `<Dataset>.json`."""
    return {k: v for k, v in dataset.config.items() if k not in ("phase", "seed")}


def domains(cfg: TrainerConfig) -> tuple[str, ...]:
    """-> the sources whose modules of the network a run trains, each once."""
    return tuple(dict.fromkeys(DATASETS[source].domain for source in cfg.data_sources))


def n_cores() -> int:
    """The processor's cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_sources(cfg: TrainerConfig, model: UNISAL) -> None:
    for option, sources in (
        ("data_sources", domains(cfg)),
        ("copy_domain", (cfg.copy_domain,) if cfg.copy_domain else ()),
    ):
        strange = [s for s in sources if s not in model.sources]
        if strange:
            raise UserError(
                f"{option}: {', '.join(strange)} is not among the network's sources {model.sources}"
            )
