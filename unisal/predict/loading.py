"""Loading of a run's network, or of a graph in a file, ready to predict."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unisal.config import (
    PRETRAINED,
    as_options,
    build,
    find_graph_file,
    find_weights,
    load_json,
    run_dir,
)
from unisal.errors import UserError, cause
from unisal.inference.cache import network_key
from unisal.inference.network import GraphNetwork, RunNetwork
from unisal.inference.views import Tta
from unisal.predict.predictor import Predictor
from unisal.predict.presets import default_preset, run_presets

if TYPE_CHECKING:
    from unisal.model import UNISAL


def load(
    train_id: str | os.PathLike[str] | None = PRETRAINED,
    device: str = "auto",
    fine_tuned: bool = False,
    precision: str = "fp32",
    runtime: str = "auto",
    tta: Tta = None,
) -> Predictor:
    """Load the network of a run, or a graph that was written to a file.

    PyTorch is not loaded for a file, nor where the graphs that are needed are in the user's cache,
    see `unisal.inference.cache`.

    Args:
        train_id: name of the run's folder in `training_runs/` or `$TRAIN_DIR`; or the path of a
            file `.onnx` that `Predictor.write_graph` has written.
        device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", ...
        fine_tuned: whether to prefer the weights fine-tuned on MIT1003, if the run has them.
        precision: see `Predictor`.
        runtime: see `Predictor`.
        tta: see `Predictor`.

    Returns:
        A predictor with the run's network and presets.

    Raises:
        UserError: there is no such run (the message lists the existing ones), file, device, runtime
            or tta, the weights are missing or broken, or the device cannot compute in that
            precision.
    """
    name = None if train_id is None else os.fspath(train_id)
    graph = find_graph_file(name)
    weights = graph or find_weights(name, fine_tuned)
    return Predictor(
        load_network(name, fine_tuned) if graph is None else GraphNetwork(graph),
        device,
        precision,
        runtime,
        presets=run_presets(name),
        image_preset=default_preset(name),
        weights=weights,
        tta=tta,
    )


def load_network(train_id: str | None, fine_tuned: bool = False) -> RunNetwork:
    """Load the network of a run as `unisal.inference.network.RunNetwork`.

    Args:
        train_id: see `load`.
        fine_tuned: see `load`.

    Raises:
        UserError: there is no such run, or its weights are missing or broken.
    """
    weights = find_weights(train_id, fine_tuned)
    options = load_json(run_dir(train_id) / "UNISAL.json")
    try:
        key = network_key(weights, options)
    except OSError as error:
        raise UserError(f"{weights} cannot be read: {cause(error)}") from None
    return RunNetwork(key, weights, partial(_load_model, weights, options))


def load_model(train_id: str | None = PRETRAINED, fine_tuned: bool = False) -> UNISAL:
    """Load the network of a run with its weights; reads nothing but the run's folder.

    Args:
        train_id: see `load`.
        fine_tuned: see `load`.

    Raises:
        UserError: there is no such run, or its weights are missing or broken.
    """
    weights = find_weights(train_id, fine_tuned)
    return _load_model(weights, load_json(run_dir(train_id) / "UNISAL.json"))


def _load_model(weights: Path, options: dict[str, object]) -> UNISAL:
    from unisal.model import UNISAL
    from unisal.model.weights import load_state, read_state

    cnn_cfg = {**as_options(options.get("cnn_cfg"), "cnn_cfg"), "pretrained": False}
    model = build(UNISAL, options, cnn_cfg=cnn_cfg)
    load_state(model, read_state(weights), str(weights))
    return model
