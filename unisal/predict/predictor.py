"""Prediction of pictures and videos in memory: `unisal.load().image(rgb)`, `.video(frames)`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Generic, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unisal.checks import check_count
from unisal.errors import UserError
from unisal.inference.densities import check_finite, to_density
from unisal.inference.engine import Engine
from unisal.model import UNISAL
from unisal.model.unisal import Features
from unisal.predict.inputs import PictureLike, as_rgb, is_picture, prepare, prepare_frames
from unisal.predict.presets import (
    IMAGE_PRESET,
    STREAM_RATE,
    VIDEO_PRESET,
    find_preset,
)
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.predict.stream import Stream
from unisal.types import Density, LogDensity, Size

FeatureArrays = dict[str, NDArray[np.float32]]
"""`[C, h, w]` each, by the names of `unisal.model.unisal.Features`."""
K = TypeVar("K")


@dataclass(frozen=True)
class Prediction(Generic[K]):
    """What the network predicts for one frame of a video."""

    key: K
    """The frame's key, as the caller gave it."""
    log_density: LogDensity
    """`[H, W]`."""
    features: FeatureArrays = field(default_factory=dict)
    """The features by name; empty if they were not asked for."""


class Predictor:
    """Predicts where people look.

    Args:
        model: a network with its weights, see `unisal.load`.
        device: where to run it.
        precision: "fp32"; or "bf16", with which PyTorch computes in bfloat16 wherever its autocast
            considers that safe. It is faster, and allowed only on processors with instructions for
            it.
        runtime: "torch"; "onnx"; or "auto" for the fastest one that gives the same numbers.

    Raises:
        UserError: an option is wrong, or is not possible on this machine.
    """

    def __init__(
        self, model: UNISAL, device: str = "auto", precision: str = "fp32", runtime: str = "auto"
    ) -> None:
        self.engine = Engine(model, device, precision=precision, runtime=runtime)

    def image(self, picture: PictureLike, log: bool = False, domain: str | None = None) -> Density:
        """Predict the saliency of one picture.

        Args:
            picture: `[H, W, 3] uint8` RGB array, PIL image, or path of a picture file.
            log: whether to return the natural logarithm of the density.
            domain: the network domain to use; by default SALICON's.

        Returns:
            `[H, W] float32` at the picture's own size (after EXIF orientation): a density over
            its pixels that sums to 1, or its logarithm.

        Raises:
            UserError: the picture cannot be read, or is an array of another shape or dtype.
        """
        rgb = as_rgb(picture)
        size = rgb.shape[0], rgb.shape[1]
        preset = find_preset(IMAGE_PRESET)
        frame = prepare(rgb, preset.input_size_for(size))
        domain = self.engine.domain(domain or preset.domain)
        log_density = self.engine.images(frame[None], size, domain)[0].numpy()
        check_finite(log_density, "the prediction")
        return log_density if log else to_density(log_density)

    def video(
        self,
        frames: Iterable[PictureLike],
        source: str = VIDEO_PRESET,
        domain: str | None = None,
        frame_step: int | None = None,
        smooth_method: str | None = None,
        log: bool = False,
    ) -> Iterator[Density]:
        """Predict the saliency of a video lazily, frame by frame.

        Memory does not grow with the length of the video. Frames are read a little ahead of the
        predictions, see `Engine.video`.

        Args:
            frames: the pictures in order, each as in `image`, all of one size.
            source: the preset, named after the data set whose videos are most similar. It decides
                the defaults of `domain` and `frame_step`, and the size at which the network sees
                the frames. With a preset for images each frame is predicted by itself.
            domain: the network domain to use.
            frame_step: the distance between frames that the network sees as neighbours; by
                default 5 for DHF1K and 4 for the others.
            smooth_method: "medK" for the median over K neighbouring frames, K odd.
            log: whether to yield the natural logarithm of the density.

        Yields:
            For each frame `[H, W] float32`, as `image` returns it.

        Raises:
            UserError: an option is wrong (raised by the call), or a frame cannot be read or differs
                in size from the first one (raised when its turn has come; names the frame).
        """
        if isinstance(frames, str | os.PathLike):
            raise UserError(f"frames is {str(frames)!r}; it has to be the pictures of a video")
        preset = find_preset(source)
        window = smoothing_window(smooth_method)
        step = check_count(preset.frame_step if frame_step is None else frame_step, "frame_step")
        domain = self.engine.domain(domain or preset.domain)

        def predict() -> Iterator[Density]:
            size, inputs = prepare_frames(frames, preset)
            predictions = self.log_densities(inputs, size, domain, step)
            keyed = ((p.key, p.log_density) for p in predictions)
            for _, y in median_over_time(keyed, window):
                yield y if log else to_density(y)

        return predict()

    def stream(
        self,
        fps: Fraction | float = STREAM_RATE,
        source: str = VIDEO_PRESET,
        domain: str | None = None,
        frame_step: int | None = None,
        reset_at_cuts: bool = False,
    ) -> Stream:
        """Start predicting a video that is still being recorded.

        Args:
            fps: see `unisal.predict.stream.Stream`.
            source: the name of the preset, see `video`.
            domain: see `video`.
            frame_step: see `unisal.predict.stream.Stream`.
            reset_at_cuts: see `unisal.predict.stream.Stream`.

        Raises:
            UserError: an option is wrong.
        """
        return Stream(self.engine, fps, source, domain, frame_step, reset_at_cuts)

    @overload
    def features(  # type: ignore[overload-overlap]  # a picture could be iterated over, too
        self, pictures: PictureLike, source: str | None = ..., domain: str | None = ...
    ) -> FeatureArrays: ...

    @overload
    def features(
        self,
        pictures: Iterable[PictureLike],
        source: str | None = ...,
        domain: str | None = ...,
        frame_step: int | None = ...,
    ) -> Iterator[FeatureArrays]: ...

    def features(
        self,
        pictures: PictureLike | Iterable[PictureLike],
        source: str | None = None,
        domain: str | None = None,
        frame_step: int | None = None,
    ) -> FeatureArrays | Iterator[FeatureArrays]:
        """Compute the network's features of a picture, or of each frame of a video.

        Args:
            pictures: one picture as in `image`, or frames as in `video`, which may also be an array
                `[n, H, W, 3]`.
            source: the name of the preset: by default SALICON for a picture, DHF1K for a video.
            domain: as in `video`.
            frame_step: as in `video`.

        Returns:
            For a picture the features by name, `[C, h, w] float32` each: `encoder_8`,
            `encoder_16`, `encoder_32`, `before_gru`, `after_gru` and `before_upsampling`, see
            `unisal.model.unisal.Features`. For a video an iterator of such dictionaries, one per
            frame in order; memory does not grow with its length.

        Raises:
            UserError: see `image` and `video`.
        """
        if is_picture(pictures):
            rgb = as_rgb(pictures)
            preset = find_preset(source or IMAGE_PRESET)
            x = prepare(rgb, preset.input_size_for((rgb.shape[0], rgb.shape[1])))
            found, _ = self.engine.features(x, self.engine.domain(domain or preset.domain))
            return _arrays(found)
        preset = find_preset(source or VIDEO_PRESET)
        step = check_count(preset.frame_step if frame_step is None else frame_step, "frame_step")
        domain = self.engine.domain(domain or preset.domain)

        def compute() -> Iterator[FeatureArrays]:
            _, inputs = prepare_frames(cast(Iterable[PictureLike], pictures), preset)
            for _, found, _ in self._frame_features(inputs, None, domain, step):
                yield _arrays(found)

        return compute()

    def log_densities(
        self,
        inputs: Iterable[tuple[K, Tensor]],
        size: Size,
        domain: str,
        frame_step: int,
        with_features: bool = False,
    ) -> Iterator[Prediction[K]]:
        """Predict the frames of a video that have been prepared for the network.

        Args:
            inputs: each frame's key with what `unisal.predict.inputs.prepare` makes of it.
            size: (height, width) of the predictions.
            domain: as in `Engine.video`.
            frame_step: as in `Engine.video`.
            with_features: whether to compute each frame's features as well.

        Yields:
            The predictions in the order of the frames.

        Raises:
            UserError: a prediction is not finite; names the frame.
        """
        predictions: Iterator[Prediction[K]]
        if with_features:
            found = self._frame_features(inputs, size, domain, frame_step)
            predictions = (Prediction(k, _numpy(y), _arrays(arrays)) for k, arrays, y in found)
        else:
            maps = self.engine.video(inputs, size, domain, frame_step)
            predictions = (Prediction(k, _numpy(y)) for k, y in maps)
        for number, prediction in enumerate(predictions, 1):
            check_finite(prediction.log_density, f"the prediction of frame {number}")
            yield prediction

    def _frame_features(
        self, inputs: Iterable[tuple[K, Tensor]], size: Size | None, domain: str, frame_step: int
    ) -> Iterator[tuple[K, Features, Tensor | None]]:
        """Yield each key with its frame's features and log-density."""
        states: list[list[Tensor | None]] = [[None] for _ in range(frame_step)]
        for position, (key, x) in enumerate(inputs):
            state = states[position % frame_step]
            yield key, *self.engine.features(x, domain, state, size)


def _arrays(found: Features) -> FeatureArrays:
    """Return features as arrays."""
    return {name: y.numpy() for name, y in found._asdict().items()}


def _numpy(log_density: Tensor | None) -> LogDensity:
    """Return a log-density as an array."""
    assert log_density is not None
    return log_density.numpy()
