"""Saliency of pictures and videos in memory: `unisal.load().image(rgb)`, `.video(frames)`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
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
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.predict.sources import IMAGE_DOMAIN, VIDEO_SOURCE, Source, find_source

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
        _check_finite(log_density, "the prediction")
        return log_density if log else to_probabilities(log_density)

    def video(
        self,
        frames: Iterable[Picture],
        source: str = VIDEO_SOURCE,
        domain: str | None = None,
        frame_step: int | None = None,
        smooth_method: str | None = None,
        log: bool = False,
    ) -> Iterator[NDArray[np.float32]]:
        """Predict the saliency of a video, frame by frame, as far as the result is asked for.

        Memory does not grow with the length of the video. Frames are read a little ahead of
        the predictions, see `Engine.video`.

        Args:
            frames: the pictures in order, each as in `image`, all of one size.
            source: the data set whose videos are most alike: decides the defaults of `domain`
                and `frame_step`, and the size at which the network sees the frames. With
                one of images each frame is predicted by itself.
            domain: whose modules of the network to use.
            frame_step: how far apart the frames are that the network sees as neighbours; by
                default 5 for DHF1K, 4 for the others.
            smooth_method: "medK": the median over K neighbouring frames, K odd.
            log: yield the natural logarithm of the density.

        Yields:
            For each frame what `image` returns.

        Raises:
            UserError: an option is wrong (when called); a frame cannot be read or has another
                size than the first one (when its turn has come; says which frame).
        """
        if isinstance(frames, str | os.PathLike):
            raise UserError(f"frames is {str(frames)!r}; it has to be the pictures of a video")
        kind = find_source(source)
        step = kind.frame_step if frame_step is None else frame_step
        if not isinstance(step, int) or step < 1:
            raise UserError(f"frame_step is {step!r}; it has to be a whole number above 0")
        window = smoothing_window(smooth_method)
        domain = self.engine.domain(domain or kind.domain)
        log_densities = median_over_time(self._log_densities(frames, kind, domain, step), window)
        return (y if log else to_probabilities(y) for y in log_densities)

    def _log_densities(
        self, frames: Iterable[Picture], source: Source, domain: str, step: int
    ) -> Iterator[NDArray[np.float32]]:
        pictures = _of_one_size(frames)
        first = next(pictures, None)
        if first is None:
            return
        size = first.shape[0], first.shape[1]
        input_size = source.input_size_for(size)
        inputs = (normalise(resize_rgb(rgb, input_size)) for rgb in chain([first], pictures))
        for number, y in enumerate(self.engine.video(inputs, size, domain, step), 1):
            log_density = y.numpy()
            _check_finite(log_density, f"the prediction of frame {number}")
            yield log_density


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


def _of_one_size(frames: Iterable[Picture]) -> Iterator[NDArray[np.uint8]]:
    size = None
    for number, frame in enumerate(frames, 1):
        name = f"{frame}" if isinstance(frame, str | os.PathLike) else f"frame {number}"
        try:
            rgb = _as_rgb(frame)
        except UserError as error:
            raise UserError(f"frame {number}: {error}") from None
        size = size or rgb.shape[:2]
        if rgb.shape[:2] != size:
            raise UserError(
                f"{name} is {rgb.shape[0]} x {rgb.shape[1]} pixels, the first frame "
                f"{size[0]} x {size[1]} (height x width); all of a video have to be alike"
            )
        yield rgb


def _check_finite(log_density: NDArray[np.float32], what: str) -> None:
    if not np.isfinite(log_density).all():
        raise UserError(f"{what} is not finite; the weights may be damaged")
