"""Saliency of a picture in memory: `unisal.load().image(rgb)`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.config import PRETRAINED, build, load_json, run_dir
from unisal.data.pictures import read_rgb, to_rgb
from unisal.data.transforms import normalise, optimal_input_size, resize_rgb
from unisal.errors import UserError
from unisal.model import UNISAL
from unisal.model.weights import find_weights, load_state, read_state
from unisal.predict.engine import Engine

IMAGE_DOMAIN = "SALICON"

Picture = NDArray[np.uint8] | Image.Image | str | os.PathLike[str]


def load(
    train_id: str | None = PRETRAINED, device: str = "auto", fine_tuned: bool = False
) -> Predictor:
    """Load the network of a run.

    Args:
        train_id: name of the run's folder in `training_runs/` or `$TRAIN_DIR`.
        device: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1", ...
        fine_tuned: prefer the weights fine-tuned on MIT1003, where the run has them.

    Raises:
        UserError: no such run (lists those there are), no or broken weights, no such device.
    """
    return Predictor(load_model(train_id, fine_tuned), device)


def load_model(train_id: str | None = PRETRAINED, fine_tuned: bool = False) -> UNISAL:
    """-> the network of a run with its weights; reads nothing but the run's folder."""
    weights = find_weights(train_id, fine_tuned)
    config = load_json(run_dir(train_id) / "UNISAL.json")
    cnn_cfg = {**(config.pop("cnn_cfg", None) or {}), "pretrained": False}
    model = build(UNISAL, config, cnn_cfg=cnn_cfg)
    load_state(model, read_state(weights), str(weights))
    return model


class Predictor:
    """Predicts where people look.

    Args:
        model: a network with its weights, see `load`.
        device: where to run it.
    """

    def __init__(self, model: UNISAL, device: str = "auto") -> None:
        self.engine = Engine(model, device)

    def image(
        self, picture: Picture, log: bool = False, domain: str = IMAGE_DOMAIN
    ) -> NDArray[np.float32]:
        """Predict the saliency of one picture.

        Args:
            picture: `[H, W, 3] uint8` RGB array, PIL image, or path of a picture file.
            log: return the natural logarithm of the density.
            domain: whose modules of the network to use.

        Returns:
            `[H, W] float32` at the picture's own size (after EXIF orientation): a density over
            its pixels that sums to 1, or its logarithm.

        Raises:
            UserError: the picture cannot be read, or is an array of another shape or dtype.
        """
        rgb = _as_rgb(picture)
        size = rgb.shape[0], rgb.shape[1]
        frame = normalise(resize_rgb(rgb, optimal_input_size(size)))
        log_density = self.engine.images(frame[None], size, self.engine.domain(domain))[0].numpy()
        if not np.isfinite(log_density).all():
            raise UserError("the prediction is not finite; the weights may be damaged")
        return log_density if log else to_probabilities(log_density)


def to_probabilities(log_density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-density `[H, W]` -> density; sums to 1 also where float32 lost some on the way."""
    density = np.exp(log_density)
    density /= density.sum(dtype=np.float64)
    return density


def _as_rgb(picture: Any) -> NDArray[np.uint8]:
    if isinstance(picture, str | os.PathLike):
        return read_rgb(Path(picture))
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(
            f"the picture is an array {list(array.shape)} of {array.dtype}; "
            "it has to be [height, width, 3] uint8 RGB"
        )
    return array
