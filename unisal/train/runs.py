"""The networks of runs that are already there."""

from __future__ import annotations

import torch

from unisal.config import as_options, build, find_weights, load_json, run_dir
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import load_state, read_state

NETWORK = "UNISAL.json"


def network_of_run(train_id: str | None) -> UNISAL:
    """Return the network of a run, with random weights.

    Args:
        train_id: the run, see `unisal.config.run_dir`.

    Raises:
        UserError: there is no such run, or its options of the network are faulty.
    """
    path = run_dir(train_id) / NETWORK
    config = load_json(path)
    cnn_cfg = {**as_options(config.pop("cnn_cfg", None), "cnn_cfg"), "pretrained": False}
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            return build(UNISAL, config, cnn_cfg=cnn_cfg)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def load_run(train_id: str | None) -> UNISAL:
    """Return the network of a run with its best weights, in evaluation mode.

    Args:
        train_id: see `network_of_run`.

    Raises:
        UserError: see `network_of_run`; or the weights are missing or do not fit.
    """
    model = network_of_run(train_id)
    weights = find_weights(train_id)
    load_state(model, read_state(weights), str(weights))
    return model.eval()
