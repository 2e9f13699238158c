"""The parts of a run, made from its options: data sets, network and loaders."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch.utils.data import DataLoader

from unisal.config import RUN_PRESETS, as_options, build, find_weights, load_json, run_dir
from unisal.data import Batch, SaliencyDataset
from unisal.data.samplers import make_loader
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import load_state, read_state
from unisal.progress import SILENT, Progress
from unisal.train.config import TrainerConfig
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
        if cfg.domain:  # of this data set alone, not of its class
            datasets[source].domain = cfg.domain  # type: ignore[misc]
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
    _check_domains(cfg, model)
    if cfg.trains == "modules" and not any(model.domain_keys(d) for d in domains(cfg)):
        raise UserError(
            "trains is 'modules', but the domains of this network share everything; there is "
            "nothing to train"
        )
    if cfg.init_from and not goes_on:
        _load_start(cfg, model, cfg.init_from)
    return model


def _load_start(cfg: TrainerConfig, model: UNISAL, run: str) -> None:
    """Load the weights that a run starts from, and make the domain that is new to them."""
    weights = find_weights(run)
    state = read_state(weights)
    if cfg.domain and cfg.new_domain_from:
        missing = {key: model.state_dict()[key] for key in model.domain_keys(cfg.domain)}
        state = {**missing, **state}
    load_state(model, state, str(weights))
    if cfg.domain and cfg.new_domain_from:
        model.copy_domain(cfg.new_domain_from, cfg.domain)


def place_model(model: UNISAL, device: torch.device) -> UNISAL:
    """Move the network to the device where it will train, in the layout that is fastest there."""
    if device.type == "cpu":  # a quarter less time for a step on images (measured)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def make_loaders(
    cfg: TrainerConfig, datasets: Mapping[str, SaliencyDataset], epoch: int, device: torch.device
) -> dict[str, DataLoader[Batch]]:
    """Make the batches of an epoch, by source."""
    workers = min(cfg.num_workers, n_cores()) if _workers_can_answer() else 0
    loaders = {}
    for source, dataset in datasets.items():
        dataset.epoch = epoch
        n = batch_size(cfg, source, dataset.phase)
        loaders[source] = make_loader(dataset, n, workers, device.type == "cuda")
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


def own_presets(
    cfg: TrainerConfig, datasets: Mapping[str, SaliencyDataset]
) -> dict[str, dict[str, Any]]:
    """Return the presets that a run keeps: one for its `domain`, and those of its start.

    Args:
        cfg: the options of the run; they name a `domain`.
        datasets: the run's data sets of one phase, by source.

    Returns:
        The fields of `unisal.predict.presets.Preset`, and the `sources` that train the domain, by
        the name of the preset.
    """
    assert cfg.domain is not None
    earlier = run_dir(cfg.init_from) / RUN_PRESETS if cfg.init_from else None
    presets = load_json(earlier) if earlier is not None and earlier.is_file() else {}
    first = next(iter(datasets.values()))
    own = {
        "domain": cfg.domain,
        "is_video": first.is_video,
        "frame_step": first.frame_step,
        "frame_rate": first.frame_rate,
        "input_size": first.input_size if first.is_video else None,
        "native_frame_size": first.native_frame_size,
        "fine_tuned": False,
        "sources": [dataset.source for dataset in datasets.values()],
    }
    return {**presets, cfg.domain: own}


def domains(cfg: TrainerConfig) -> tuple[str, ...]:
    """Return the domains that a run trains, each once."""
    if cfg.domain:
        return (cfg.domain,)
    return tuple(dict.fromkeys(dataset_of(cfg, source).domain for source in cfg.data_sources))


def n_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_domains(cfg: TrainerConfig, model: UNISAL) -> None:
    for option, used in (
        ("domain" if cfg.domain else "data_sources", domains(cfg)),
        ("copy_domain", (cfg.copy_domain,) if cfg.copy_domain else ()),
        ("new_domain_from", (cfg.new_domain_from,) if cfg.new_domain_from else ()),
    ):
        if strange := [domain for domain in used if domain not in model.sources]:
            raise UserError(
                f"{option}: {', '.join(strange)} is not among the network's sources {model.sources}"
            )
