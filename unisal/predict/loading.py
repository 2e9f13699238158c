"""Loading of a run's network, ready to predict."""

from __future__ import annotations

from unisal.config import PRETRAINED, as_options, build, load_json, run_dir
from unisal.inference.views import Tta
from unisal.model import UNISAL
from unisal.model.weights import find_weights, load_state, read_state
from unisal.predict.predictor import Predictor
from unisal.predict.presets import default_preset, run_presets


def load(
    train_id: str | None = PRETRAINED,
    device: str = "auto",
    fine_tuned: bool = False,
    precision: str = "fp32",
    runtime: str = "auto",
    tta: Tta = None,
) -> Predictor:
    """Load the network of a run.

    Args:
        train_id: name of the run's folder in `training_runs/` or `$TRAIN_DIR`.
        device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", ...
        fine_tuned: whether to prefer the weights fine-tuned on MIT1003, if the run has them.
        precision: see `Predictor`.
        runtime: see `Predictor`.
        tta: see `Predictor`.

    Returns:
        A predictor with the run's network and presets.

    Raises:
        UserError: there is no such run (the message lists the existing ones), device, runtime or
            tta, the weights are missing or broken, or the device cannot compute in that precision.
    """
    model = load_model(train_id, fine_tuned)
    return Predictor(
        model,
        device,
        precision,
        runtime,
        presets=run_presets(train_id),
        image_preset=default_preset(train_id),
        weights=find_weights(train_id, fine_tuned),
        tta=tta,
    )


def load_model(train_id: str | None = PRETRAINED, fine_tuned: bool = False) -> UNISAL:
    """Load the network of a run with its weights; reads nothing but the run's folder.

    Args:
        train_id: see `load`.
        fine_tuned: see `load`.

    Raises:
        UserError: there is no such run, or its weights are missing or broken.
    """
    weights = find_weights(train_id, fine_tuned)
    config = load_json(run_dir(train_id) / "UNISAL.json")
    cnn_cfg = {**as_options(config.pop("cnn_cfg", None), "cnn_cfg"), "pretrained": False}
    model = build(UNISAL, config, cnn_cfg=cnn_cfg)
    load_state(model, read_state(weights), str(weights))
    return model
