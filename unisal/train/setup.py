"""The parts of a run, made from its options: data sets, network and loaders."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from unisal.config import as_options, build, find_weights
from unisal.data import Batch, SaliencyDataset
from unisal.data.samplers import make_loader
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import load_state, read_state
from unisal.progress import SILENT, Progress
from unisal.train.config import TrainerConfig
from unisal.train.domains import check_domains, domains, domains_of
from unisal.train.processes import ALONE, Processes
from unisal.train.sources import (
    batch_size,
    check_sources,
    dataset_of,
    dataset_options,
    names_of_sources,
)

MAX_TEMPORARY_BYTES = 70
"""How long the path of the folder for temporary files may be: sockets of at most 104 bytes lie in a
folder in it."""

log = logging.getLogger(__name__)


def make_datasets(
    cfg: TrainerConfig, phase: str, progress: Progress = SILENT
) -> dict[str, SaliencyDataset]:
    """Make the data sets of a phase, each with a random stream of its own.

    Args:
        cfg: the options of the run.
        phase: "train" or "valid".
        progress: shows the progress of indexing many files.

    Returns:
        The data sets by source.

    Raises:
        UserError: a source is unknown, or data is missing or faulty.
    """
    check_sources(cfg)
    datasets = {}
    for number, source in enumerate(names_of_sources(cfg)):
        datasets[source] = dataset_of(cfg, source).from_options(
            dataset_options(cfg, source),
            progress=progress,
            phase=phase,
            seed=(cfg.seed, number),
        )
        if cfg.domain or cfg.own_domains:  # of this data set alone, not of its class
            datasets[source].domain = domains_of(cfg, source)[0]  # type: ignore[misc]
    return datasets


def make_model(cfg: TrainerConfig, goes_on: bool = False) -> UNISAL:
    """Make the network that the run starts from.

    It has ImageNet's encoder, or the weights of the run that `init_from` names.

    Args:
        cfg: the options of the run.
        goes_on: whether the weights of a checkpoint will be loaded into it, so that no others
            are read.

    Raises:
        UserError: an option is wrong, or weights do not fit; names them.
    """
    options = {"sources": domains(cfg), **cfg.model_cfg}
    if goes_on or cfg.init_from:
        options["cnn_cfg"] = {**as_options(options.get("cnn_cfg"), "cnn_cfg"), "pretrained": False}
    try:
        model = build(UNISAL, options)
    except ValueError as error:
        raise UserError(f"model_cfg: {error}") from None
    check_domains(cfg, model)
    if cfg.trains == "modules" and not any(model.domain_keys(d) for d in domains(cfg)):
        raise UserError(
            "trains is 'modules', but the domains of this network share everything; there is "
            "nothing to train"
        )
    if cfg.trains == "recurrent" and set(domains(cfg)) <= set(model.image_domains):
        raise UserError(
            f"trains is 'recurrent', but {', '.join(domains(cfg))} never uses the recurrent part"
        )
    if cfg.init_from and not goes_on:
        _load_start(cfg, model, cfg.init_from)
    return model


def _load_start(cfg: TrainerConfig, model: UNISAL, run: str) -> None:
    """Load the weights that a run starts from, and make the domains that are new to them."""
    weights = find_weights(run)
    state = read_state(weights)
    start, new = cfg.new_domain_from, []
    if start:
        if _lacks(state, model, start):
            raise UserError(f"new_domain_from is {start!r}, a domain that {weights} lacks as well")
        new = [d for d in domains(cfg) if d == cfg.domain or _lacks(state, model, d)]
        added = set().union(*(model.domain_keys(domain) for domain in new))
        state = {**{key: model.state_dict()[key] for key in added}, **state}
    load_state(model, state, str(weights))
    for domain in new:
        model.copy_domain(str(start), domain)


def _lacks(state: Mapping[str, Tensor], model: UNISAL, domain: str) -> bool:
    """Return whether weights hold nothing of a domain that has modules of its own."""
    keys = model.domain_keys(domain)
    return bool(keys) and keys.isdisjoint(state)


def place_model(model: UNISAL, device: torch.device) -> UNISAL:
    """Move the network to the device where it will train, in the layout that is fastest there."""
    if device.type == "cpu":  # a quarter less time for a step on images (measured)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def make_loaders(
    cfg: TrainerConfig,
    datasets: Mapping[str, SaliencyDataset],
    epoch: int,
    device: torch.device,
    processes: Processes = ALONE,
) -> dict[str, DataLoader[Batch]]:
    """Make the batches of an epoch, by source.

    Args:
        cfg: the options of the run.
        datasets: the data sets of one phase, by source.
        epoch: the epoch, from 0.
        device: where the batches will be needed.
        processes: in training each of them gets a part of each batch; in validation all batches
            come whole.
    """
    cores = max(1, n_cores() // processes.n_local)
    workers = min(cfg.num_workers, cores) if _workers_can_answer() else 0
    loaders = {}
    for source, dataset in datasets.items():
        dataset.epoch = epoch
        n, part = batch_size(cfg, source, dataset.phase), (0, 1)
        if dataset.phase == "train":  # all that one update is made of, cut up in the step
            n, part = n * cfg.accumulate, (processes.rank, processes.n)
        loaders[source] = make_loader(dataset, n, workers, device.type == "cuda", *part)
    return loaders


@cache
def _workers_can_answer() -> bool:
    """Return whether processes can hand over tensors: the path of the socket has to be short."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) <= MAX_TEMPORARY_BYTES:
        return True
    log.warning(
        "the path of the folder for temporary files is too long for processes that read data, so "
        "it is read without; set TMPDIR to a shorter one than %s",
        folder,
    )
    return False


def kept_options(dataset: SaliencyDataset) -> dict[str, Any]:
    """Return the options of a data set that a run keeps in `<Dataset>.json`."""
    return {k: v for k, v in dataset.config.items() if k not in ("phase", "seed")}


def n_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
