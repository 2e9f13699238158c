"""Saliency of pictures and videos in memory: `unisal.load().image(rgb)`, `.video(frames)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unisal.config import PRETRAINED, build, load_json, run_dir
from unisal.data.pictures import read_rgb, to_rgb
from unisal.data.transforms import normalise, optimal_input_size, resize_rgb
from unisal.errors import UserError
from unisal.inference.engine import Engine
from unisal.model import UNISAL
from unisal.model.unisal import Features
from unisal.model.weights import find_weights, load_state, read_state
from unisal.predict.presets import (
    IMAGE_DOMAIN,
    IMAGE_SOURCE,
    VIDEO_SOURCE,
    Source,
    find_source,
)
from unisal.predict.smooth import median_over_time, smoothing_window

if TYPE_CHECKING:
    from unisal.predict.stream import Stream

Picture = NDArray[np.uint8] | Image.Image | str | os.PathLike[str]
FeatureArrays = dict[str, NDArray[np.float32]]
"""`[C, h, w]` each, by the names of `unisal.model.unisal.Features`."""
STREAM_RATE = 30
"""Frames per second of a stream, where nothing else is said."""


def load(
    train_id: str | None = PRETRAINED,
    device: str = "auto",
    fine_tuned: bool = False,
    precision: str = "fp32",
    runtime: str = "auto",
) -> Predictor:
    """Load the network of a run.

    Args:
        train_id: name of the run's folder in `training_runs/` or `$TRAIN_DIR`.
        device: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1", ...
        fine_tuned: prefer the weights fine-tuned on MIT1003, where the run has them.
        precision, runtime: see `Predictor`.

    Raises:
        UserError: no such run (lists those there are), no or broken weights, no such device or
            runtime, a precision that it cannot compute in.
    """
    return Predictor(load_model(train_id, fine_tuned), device, precision, runtime)


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
        precision: "fp32", or "bf16": PyTorch computes in bfloat16 where its autocast thinks that
            safe. Faster on processors that have instructions for it; other ones refuse it.
        runtime: "auto", the fastest one that gives the same numbers; "torch" or "onnx".
    """

    def __init__(
        self, model: UNISAL, device: str = "auto", precision: str = "fp32", runtime: str = "auto"
    ) -> None:
        self.engine = Engine(model, device, precision=precision, runtime=runtime)

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
        rgb = as_rgb(picture)
        size = rgb.shape[0], rgb.shape[1]
        frame = prepare(rgb, optimal_input_size(size))
        log_density = self.engine.images(frame[None], size, self.engine.domain(domain))[0].numpy()
        check_finite(log_density, "the prediction")
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
        step = check_step(kind.frame_step if frame_step is None else frame_step)
        window = smoothing_window(smooth_method)
        domain = self.engine.domain(domain or kind.domain)
        log_densities = median_over_time(self._log_densities(frames, kind, domain, step), window)
        return (y if log else to_probabilities(y) for y in log_densities)

    def stream(
        self,
        fps: Fraction | float = STREAM_RATE,
        source: str = VIDEO_SOURCE,
        domain: str | None = None,
        frame_step: int | None = None,
        reset_at_cuts: bool = False,
    ) -> Stream:
        """Start to predict a video that is still going on, see `unisal.predict.stream.Stream`."""
        from unisal.predict.stream import Stream

        return Stream(self, fps, source, domain, frame_step, reset_at_cuts)

    @overload
    def features(  # type: ignore[overload-overlap]  # a picture could be gone through as well
        self, pictures: Picture, source: str | None = ..., domain: str | None = ...
    ) -> FeatureArrays: ...

    @overload
    def features(
        self,
        pictures: Iterable[Picture],
        source: str | None = ...,
        domain: str | None = ...,
        frame_step: int | None = ...,
    ) -> Iterator[FeatureArrays]: ...

    def features(
        self,
        pictures: Picture | Iterable[Picture],
        source: str | None = None,
        domain: str | None = None,
        frame_step: int | None = None,
    ) -> FeatureArrays | Iterator[FeatureArrays]:
        """The network's features of a picture, or of each frame of a video.

        Args:
            pictures: one picture as in `image`, or frames as in `video` (an array `[n, H, W, 3]`
                too).
            source: what it is most like: SALICON for a picture, DHF1K for a video.
            domain, frame_step: as in `video`.

        Returns:
            For a picture the features by name, `[C, h, w] float32` each: `encoder_8`,
            `encoder_16`, `encoder_32`, `before_gru`, `after_gru` and `before_upsampling`, see
            `unisal.model.unisal.Features`. For a video an iterator of them, one per frame in
            order, in memory that does not grow with its length.

        Raises:
            UserError: as `image` and `video`.
        """
        if _is_picture(pictures):
            rgb = as_rgb(pictures)
            kind = find_source(source or IMAGE_SOURCE)
            x = prepare(rgb, kind.input_size_for((rgb.shape[0], rgb.shape[1])))
            found, _ = self.engine.features(x, self.engine.domain(domain or kind.domain))
            return _arrays(found)
        kind = find_source(source or VIDEO_SOURCE)
        step = check_step(kind.frame_step if frame_step is None else frame_step)
        domain = self.engine.domain(domain or kind.domain)
        return self._features(cast(Iterable[Picture], pictures), kind, domain, step)

    def log_densities(
        self,
        inputs: Iterable[Tensor],
        size: tuple[int, int],
        domain: str,
        step: int,
        on_features: Callable[[FeatureArrays], object] | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Predict the frames of a video that are prepared for the network, see `prepare`.

        Args:
            inputs, size, domain, step: as in `Engine.video`.
            on_features: called with the features of each frame before its prediction is yielded.

        Yields:
            Log-densities `[h, w] float32`.

        Raises:
            UserError: a prediction is not finite; says of which frame.
        """
        if on_features is None:
            results = self.engine.video(inputs, size, domain, step)
        else:
            results = self._report_features(inputs, size, domain, step, on_features)
        for number, y in enumerate(results, 1):
            log_density = y.numpy()
            check_finite(log_density, f"the prediction of frame {number}")
            yield log_density

    def _log_densities(
        self, frames: Iterable[Picture], source: Source, domain: str, step: int
    ) -> Iterator[NDArray[np.float32]]:
        size, inputs = _prepared(frames, source)
        yield from self.log_densities(inputs, size, domain, step)

    def _features(
        self, frames: Iterable[Picture], source: Source, domain: str, step: int
    ) -> Iterator[FeatureArrays]:
        _, inputs = _prepared(frames, source)
        for found, _ in self._frame_features(inputs, domain, step):
            yield _arrays(found)

    def _report_features(
        self,
        inputs: Iterable[Tensor],
        size: tuple[int, int],
        domain: str,
        step: int,
        report: Callable[[FeatureArrays], object],
    ) -> Iterator[Tensor]:
        for found, log_density in self._frame_features(inputs, domain, step, size):
            report(_arrays(found))
            assert log_density is not None
            yield log_density

    def _frame_features(
        self,
        inputs: Iterable[Tensor],
        domain: str,
        step: int,
        target_size: tuple[int, int] | None = None,
    ) -> Iterator[tuple[Features, Tensor | None]]:
        states: list[list[Tensor | None]] = [[None] for _ in range(step)]
        for position, x in enumerate(inputs):
            yield self.engine.features(x, domain, states[position % step], target_size)


def prepare(rgb: NDArray[np.uint8] | Image.Image, input_size: tuple[int, int]) -> Tensor:
    """A picture `[H, W, 3] uint8` or a PIL image of mode RGB -> what the network takes,
    `[3, *input_size] float32`."""
    return normalise(resize_rgb(rgb, input_size))


def to_probabilities(log_density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-density `[H, W]` -> density; sums to 1 also where float32 lost some on the way."""
    density = np.exp(log_density)
    density /= density.sum(dtype=np.float64)
    return density


def as_rgb(picture: Any) -> NDArray[np.uint8]:
    """Whatever may stand for a picture -> `[H, W, 3] uint8`; errors as of `Predictor.image`."""
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


def check_step(frame_step: Any) -> int:
    """-> the distance of neighbouring frames.

    Raises:
        UserError: it is no whole number above 0.
    """
    if not isinstance(frame_step, int) or frame_step < 1:
        raise UserError(f"frame_step is {frame_step!r}; it has to be a whole number above 0")
    return frame_step


def _is_picture(pictures: Any) -> TypeGuard[Picture]:
    if isinstance(pictures, np.ndarray):
        return pictures.ndim == 3
    return isinstance(pictures, Image.Image | str | os.PathLike)


def _arrays(found: Features) -> FeatureArrays:
    return {name: y.numpy() for name, y in found._asdict().items()}


def _prepared(
    frames: Iterable[Picture], source: Source
) -> tuple[tuple[int, int], Iterator[Tensor]]:
    """-> the size of the frames (any where there are none), and what the network takes of them."""
    pictures = _of_one_size(frames)
    first = next(pictures, None)
    if first is None:
        return (1, 1), iter(())
    size = first.shape[0], first.shape[1]
    input_size = source.input_size_for(size)
    return size, (prepare(rgb, input_size) for rgb in chain([first], pictures))


def _of_one_size(frames: Iterable[Picture]) -> Iterator[NDArray[np.uint8]]:
    size = None
    for number, frame in enumerate(frames, 1):
        name = f"{frame}" if isinstance(frame, str | os.PathLike) else f"frame {number}"
        try:
            rgb = as_rgb(frame)
        except UserError as error:
            raise UserError(f"frame {number}: {error}") from None
        size = size or rgb.shape[:2]
        if rgb.shape[:2] != size:
            raise UserError(
                f"{name} is {rgb.shape[0]} x {rgb.shape[1]} pixels, the first frame "
                f"{size[0]} x {size[1]} (height x width); all of a video have to be alike"
            )
        yield rgb


def check_finite(log_density: NDArray[np.float32], what: str) -> None:
    """`UserError` where a prediction holds something that is no number."""
    if not np.isfinite(log_density).all():
        raise UserError(f"{what} is not finite; the weights may be damaged")
