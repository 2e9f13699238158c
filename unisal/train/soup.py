"""The mean of several runs' weights, a "model soup" (Wortsman et al., ICML 2022).

Runs that started from the same weights often lie so close together that the network with their
mean weights predicts better than each of them, at the price of one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisal.config import BEST, RUN_PRESETS, as_options, find_weights, run_dir, save_json, to_json
from unisal.errors import UserError
from unisal.files import whole_folder
from unisal.model import UNISAL
from unisal.model.conv_gru import RNNConfig
from unisal.model.unisal import CNN_DEFAULTS, RNN_IGNORED
from unisal.model.weights import load_state, read_state
from unisal.train.checkpoint import save_weights
from unisal.train.runs import NETWORK, network_of_run

RECORD = "average.json"
"""The file in the folder of an averaged run that says what it is the mean of."""
COPIED = (NETWORK, RUN_PRESETS, "*Dataset.json", "*_data.json")
"""What is taken over from the first run: how its network and its data are read."""
ONLY_IN_TRAINING = (
    *("drop_probs", "bn_momentum", "static_bn_momentum"),
    *("gaussian_init", "verbose"),
)
"""Options of the network that change nothing in what given weights predict, so they may differ."""


def average_runs(train_ids: Sequence[str], folder: Path) -> None:
    """Write a run whose weights are the mean of several runs' best weights.

    Parameters and BatchNorm statistics are averaged in float64; what counts steps is taken from the
    first run.

    Args:
        train_ids: the runs, at least two; see `unisal.config.run_dir`.
        folder: the new run's folder, which must not exist. Besides the weights it gets the first
            run's network, presets and data sets, and `average.json`: names and digests of the
            weights.

    Raises:
        UserError: a run is missing or damaged, the networks differ, or the folder exists.
    """
    if len(train_ids) < 2 or len(set(train_ids)) < len(train_ids):
        raise UserError(f"train_ids is {', '.join(train_ids)!r}; name at least two runs, each once")
    if folder.exists():
        raise UserError(f"{folder} already exists; choose another prefix")
    first, *others = train_ids
    model = network_of_run(first)
    for other in others:
        _refuse_other_network(first, model.config, other, network_of_run(other).config)
    weights = [find_weights(train_id) for train_id in train_ids]
    load_state(model, mean_state([_read(model, path) for path in weights]), str(folder))
    members = [
        {
            "train_id": train_id,
            "weights": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for train_id, path in zip(train_ids, weights, strict=True)
    ]
    with whole_folder(folder) as temporary:
        for pattern in COPIED:
            for file in sorted(run_dir(first).glob(pattern)):
                shutil.copyfile(file, temporary / file.name)
        save_json(temporary / RECORD, {"runs": members})
        save_weights(temporary / BEST, model)


def mean_state(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of state dicts with the same keys and shapes.

    Args:
        states: the state dicts. What is not of floating point is taken from the first one.

    Returns:
        The means, summed in float64 and rounded to the first one's types.
    """
    return {key: _mean([state[key] for state in states]) for key in states[0]}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).to(first.dtype)


def _read(model: UNISAL, path: Path) -> dict[str, Tensor]:
    """Read weights that fit a network."""
    state = read_state(path)
    load_state(model, state, str(path))  # names what does not fit
    return state


def _refuse_other_network(
    first: str, ours: Mapping[str, Any], other: str, theirs: Mapping[str, Any]
) -> None:
    """Refuse to average networks that are built in another way; name the options that differ."""
    own, his = _with_defaults(ours), _with_defaults(theirs)
    differing = [
        f"{name} is {own.get(name)} in {first} and {his.get(name)} in {other}"
        for name in dict.fromkeys((*own, *his))
        if name not in ONLY_IN_TRAINING and own.get(name) != his.get(name)
    ]
    if differing:
        raise UserError(f"only runs of one network can be averaged: {'; '.join(differing)}")


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's options with those of its parts that were not given, as JSON has them."""
    encoder = CNN_DEFAULTS | as_options(config["cnn_cfg"], "cnn_cfg")
    given = as_options(config["rnn_cfg"], "rnn_cfg")
    gru = RNNConfig()._asdict() | {k: v for k, v in given.items() if k not in RNN_IGNORED}
    plain: dict[str, Any] = json.loads(to_json({**config, "cnn_cfg": encoder, "rnn_cfg": gru}))
    return plain
