"""Prediction of pictures and videos in memory: `unisal.load().image(rgb)`, `.video(frames)`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count
from unisal.config import GRAPH_SUFFIX
from unisal.data.picture_kinds import VIDEO_SUFFIXES
from unisal.data.pictures import list_pictures, picture_size
from unisal.data.transforms import RGB_MEAN, RGB_STD
from unisal.errors import UserError, cause
from unisal.files import write_atomically
from unisal.inference.densities import check_finite, to_density
from unisal.inference.engine import Engine
from unisal.inference.graph_file import Graph, to_bytes
from unisal.inference.network import SavedNetwork
from unisal.inference.runtime import Frame, State
from unisal.inference.views import Tta
from unisal.predict.facts import Facts
from unisal.predict.inputs import PictureLike, as_rgb, is_picture, prepare, prepare_frames
from unisal.predict.presets import (
    IMAGE_PRESET,
    NO_PRESETS,
    STREAM_RATE,
    VIDEO_PRESET,
    Preset,
    find_preset,
)
from unisal.predict.smooth import median_over_time, smoothing_window
from unisal.predict.stream import Stream
from unisal.threads import in_threads
from unisal.types import RGB, STRIDE, Density, Features, LogDensity, Size
from unisal.version import __version__

if TYPE_CHECKING:
    from unisal.data.video_file import VideoFile
    from unisal.model import UNISAL

FeatureArrays = dict[str, NDArray[np.float32]]
"""`[C, h, w]` each, by the names of `unisal.types.Features`."""
K = TypeVar("K")
INPUT_TEXT = (
    "RGB from 0 to 1, resized with an antialiased Lanczos filter to sides that are multiples of "
    f"{STRIDE}, minus the mean {RGB_MEAN}, divided by the standard deviation {RGB_STD}"
)
OUTPUT_TEXT = (
    "logits: divided by the domain's temperature (1 if it has none) and resized bilinearly "
    "(half-pixel centres) to the picture's size, their softmax over all pixels is the density"
)
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

_LOG = logging.getLogger(__name__)


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
        model: a network with its weights, in PyTorch or in another form, see `unisal.load`.
        device: where to run it.
        precision: "fp32"; "bf16" for bfloat16, allowed only on processors with instructions for it;
            "int8" for the graphs in 8 bits that the command `quantize` has put beside a run's
            weights; or "auto", which takes those, or else bfloat16, where `quantize` has found that
            they agree with float32 as well as is asked for, and float32 elsewhere. On a processor
            without instructions for 8 bits "int8" is float32.
        runtime: "torch"; "onnx"; "openvino", for bfloat16 on the CPU; or "auto" for the fastest one
            that gives the same numbers. For bfloat16 and the network of a run, that is measured at
            first use and remembered, see `unisal.inference.bf16`.
        presets: presets of the network's own, see `unisal.predict.presets.run_presets`.
        image_preset: the name of the preset for images if none is named.
        weights: the file that the network's weights were read from, for `facts`.
        tta: "mirror", "scales" or "mirror,scales": what to average, see
            `unisal.inference.engine.Engine`.

    Raises:
        UserError: an option is wrong, or is not possible on this machine.
    """

    def __init__(
        self,
        model: UNISAL | SavedNetwork,
        device: str = "auto",
        precision: str = "fp32",
        runtime: str = "auto",
        presets: Mapping[str, Preset] = NO_PRESETS,
        image_preset: str = IMAGE_PRESET,
        weights: Path | None = None,
        tta: Tta = None,
    ) -> None:
        self.engine = Engine(model, device, precision=precision, runtime=runtime, tta=tta)
        self.presets = dict(presets)
        self.image_preset = image_preset
        self.weights = weights

    def facts(
        self, source: str | None = None, domain: str | None = None, is_video: bool = False
    ) -> Facts:
        """Return with what pictures or videos are predicted: run, weights, preset, domain, runtime.

        Args:
            source: the name of the preset, see `image` and `video`; None for the default.
            domain: the network domain; None for the preset's.
            is_video: whether it is about videos.

        Raises:
            UserError: there is no such preset.
        """
        name = source or (VIDEO_PRESET if is_video else self.image_preset)
        preset = find_preset(name, for_images=not is_video, own=self.presets)
        domain = self.engine.domain(domain or preset.domain)
        return Facts.of(self.engine, self.weights, name, domain, is_video)

    def image(
        self,
        picture: PictureLike,
        log: bool = False,
        domain: str | None = None,
        source: str | None = None,
    ) -> Density:
        """Predict the saliency of one picture.

        Args:
            picture: `[H, W, 3]` RGB array, uint8 from 0 to 255 or float from 0 to 1; grey and with
                alpha as well (`[H, W]`, `[H, W, 1]`, `[H, W, 4]`); such a tensor with the channels
                first; PIL image; path of a picture file, its content, or an open file. See
                `unisal.predict.inputs.as_rgb`.
            log: whether to return the natural logarithm of the density.
            domain: the network domain to use; by default the preset's.
            source: the name of the preset, one for images, see `unisal.predict.presets`; by default
                the one that the run marks, else SALICON.

        Returns:
            `[H, W] float32` at the picture's own size (after EXIF orientation): a density over
            its pixels that sums to 1, or its logarithm.

        Raises:
            UserError: the picture cannot be read, or is an array of another shape, dtype or range.
        """
        preset = self._find_image_preset(source)
        return self._image(picture, log, preset, self.engine.domain(domain or preset.domain))

    @overload
    def images(
        self,
        pictures: Iterable[PictureLike],
        log: bool = ...,
        domain: str | None = ...,
        source: str | None = ...,
    ) -> Iterator[Density]: ...

    @overload
    def images(
        self,
        pictures: Iterable[PictureLike],
        log: bool = ...,
        domain: str | None = ...,
        source: str | None = ...,
        *,
        on_error: Callable[[int, UserError], object] | None,
    ) -> Iterator[Density | None]: ...

    def images(
        self,
        pictures: Iterable[PictureLike],
        log: bool = False,
        domain: str | None = None,
        source: str | None = None,
        *,
        on_error: Callable[[int, UserError], object] | None = None,
    ) -> Iterator[Density | None]:
        """Predict the saliency of many pictures, several at a time, as the results are asked for.

        Memory does not grow with their number: pictures are taken from the iterable a little ahead
        of the results, in the caller's thread.

        Args:
            pictures: each as in `image`, of any sizes.
            log: see `image`.
            domain: see `image`.
            source: see `image`.
            on_error: called with the index of a picture that cannot be read or predicted, from 0,
                and what is wrong with it; the others go on. None: the error is raised.

        Yields:
            For each picture, in order, what `image` returns; but for rounding the same numbers.
            None in place of a picture that `on_error` was called for.

        Raises:
            UserError: `pictures` is a single picture (when called); a picture cannot be read and
                there is no `on_error` (when its turn has come; says which).
        """
        if is_picture(pictures):
            raise UserError("pictures is a single picture; image() takes one, images() many")
        _check_several(pictures, "pictures")
        preset = self._find_image_preset(source)
        domain = self.engine.domain(domain or preset.domain)

        def predict(picture: PictureLike) -> Density | UserError:
            try:
                return self._image(picture, log, preset, domain, concurrent=True)
            except UserError as error:
                return error

        def results() -> Iterator[Density | None]:
            workers = self.engine.workers
            with closing(in_threads(predict, pictures, workers, ahead=workers)) as found:
                for index, result in enumerate(found):
                    if not isinstance(result, UserError):
                        yield result
                    elif on_error is None:
                        raise UserError(f"picture {index + 1}: {result}")
                    else:
                        on_error(index, result)
                        yield None

        return results()

    def _find_image_preset(self, source: str | None) -> Preset:
        return find_preset(source or self.image_preset, for_images=True, own=self.presets)

    def _image(
        self,
        picture: PictureLike,
        log: bool,
        preset: Preset,
        domain: str,
        concurrent: bool = False,
    ) -> Density:
        rgb = as_rgb(picture)
        size = rgb.shape[0], rgb.shape[1]
        frame = prepare(rgb, preset.input_size_for(size))
        log_density = self.engine.images(frame[None], size, domain, concurrent)[0]
        check_finite(log_density, "the prediction")
        return log_density if log else to_density(log_density)

    def video(
        self,
        frames: str | os.PathLike[str] | Iterable[PictureLike],
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
            frames: the pictures in order, each as in `image`, all of one size (an array
                `[n, H, W, 3]` as well); or the path of a video file, or of a folder with a video's
                frames, which are read in natural order.
            source: the preset, named after the data set whose videos are most similar: decides the
                defaults of `domain` and `frame_step`, and the size at which the network sees the
                frames. With a preset for images each frame is predicted by itself.
            domain: whose modules of the network to use.
            frame_step: how far apart the frames are that the network sees as neighbours; by
                default 5 for DHF1K and 4 for the others. Of a video file whatever is nearest to
                that in time: with DHF1K 5 at 30 frames per second, 4 at 25, 10 at 60.
            smooth_method: "medK": the median over K neighbouring frames, K odd.
            log: whether to yield the natural logarithm of the density.

        Yields:
            For each frame `[H, W] float32`, as `image` returns it.

        Raises:
            UserError: an option is wrong, or the file is no video (when called); a frame cannot be
                read or has another size than the first one (when its turn has come; says which
                frame).
        """
        preset = self.preset(source)
        window = smoothing_window(smooth_method)
        step = None if frame_step is None else check_count(frame_step, "frame_step")
        domain = self.engine.domain(domain or preset.domain)
        if not isinstance(frames, str | os.PathLike) and is_picture(frames):
            raise UserError("frames is a single picture; image() takes one, video() many")
        opened = _open(frames, preset, step)

        def predict() -> Iterator[Density]:
            with opened:
                size, inputs = prepare_frames(opened.pictures, preset)
                predictions = self.log_densities(inputs, size, domain, opened.step)
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
        preset = find_preset(source, own=self.presets)
        return Stream(self.engine, fps, preset, domain, frame_step, reset_at_cuts)

    @overload
    def features(
        self,
        pictures: str | os.PathLike[str],
        source: str | None = ...,
        domain: str | None = ...,
        frame_step: int | None = ...,
    ) -> Any: ...

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
            pictures: one picture as in `image`, or frames as in `video`. A path is that of a video
                if it ends as videos do (`.mp4`, ...) or is no picture, and that of a video's frames
                if it is a folder.
            source: the name of the preset: by default that of `image` for a picture, DHF1K for a
                video.
            domain: as in `video`.
            frame_step: as in `video`.

        Returns:
            For a picture the features by name, `[C, h, w] float32` each: `encoder_8`,
            `encoder_16`, `encoder_32`, `before_gru`, `after_gru` and `before_upsampling`, see
            `unisal.types.Features`. For a video an iterator of such dictionaries, one per frame in
            order; memory does not grow with its length. With `tta` too they are those of the
            picture itself.

        Raises:
            UserError: see `image` and `video`.
        """
        if is_picture(pictures) and not _is_video(pictures):
            rgb = as_rgb(pictures)
            preset = find_preset(source or self.image_preset, own=self.presets)
            x = prepare(rgb, preset.input_size_for((rgb.shape[0], rgb.shape[1])))
            found, _ = self.engine.features(x, self.engine.domain(domain or preset.domain))
            return found._asdict()
        preset = find_preset(source or VIDEO_PRESET, own=self.presets)
        step = None if frame_step is None else check_count(frame_step, "frame_step")
        domain = self.engine.domain(domain or preset.domain)
        opened = _open(cast(Iterable[PictureLike], pictures), preset, step)

        def compute() -> Iterator[FeatureArrays]:
            with opened:
                _, inputs = prepare_frames(opened.pictures, preset)
                for _, found, _ in self._frame_features(inputs, None, domain, opened.step):
                    yield found._asdict()

        return compute()

    def write_graph(
        self,
        path: str | os.PathLike[str],
        source: str | None = None,
        domain: str | None = None,
        licence: str | None = None,
    ) -> None:
        """Write the network to a file with which `unisal.load` predicts without PyTorch.

        It is an ONNX model for one domain, and for either pictures or videos. Its metadata also
        holds the preset, how pictures become its input and its output a density, and the digest of
        the weights it was made of.

        Args:
            path: the file; its name has to end in `.onnx`.
            source: the name of the preset, one for pictures or one for videos; by default that of
                `image`.
            domain: the network domain to use; by default the preset's.
            licence: that of the weights, for the file's metadata; for example "Apache-2.0".

        Raises:
            UserError: an option is wrong, the file cannot be written, or no graph can be made of
                the network.
        """
        path = Path(path)
        if path.suffix != GRAPH_SUFFIX:
            raise UserError(f"path is {str(path)!r}; it has to end in {GRAPH_SUFFIX}")
        content = to_bytes(self.graph(source, domain, licence))
        try:
            write_atomically(path, lambda temporary: temporary.write_bytes(content))
        except OSError as error:
            raise UserError(f"{path} cannot be written: {cause(error)}") from None

    def preset(self, source: str) -> Preset:
        """Return the preset with that name, of the run's own or of a source.

        Raises:
            UserError: there is none.
        """
        return find_preset(source, own=self.presets)

    def graph(
        self, source: str | None = None, domain: str | None = None, licence: str | None = None
    ) -> Graph:
        """Return the network as what `write_graph` writes: an ONNX model, and its metadata.

        Args:
            source: see `write_graph`.
            domain: see `write_graph`.
            licence: see `write_graph`.

        Raises:
            UserError: an option is wrong, or no graph can be made of the network.
        """
        source = source or self.image_preset
        preset = self.preset(source)
        domain = self.engine.domain(domain or preset.domain)
        static = not preset.is_video or self.engine.is_static(domain)
        model, facts, _ = self.engine.network.graph(domain, static)
        weights = getattr(self.engine.network, "weights", None)
        about = {
            "preset_name": source,
            "preset": preset._replace(domain=domain)._asdict(),
            "licence": licence,
            "weights_sha256": None if weights is None else sha256(weights.read_bytes()).hexdigest(),
            "version": __version__,
            "input": INPUT_TEXT,
            "output": OUTPUT_TEXT,
        }
        return Graph(model, {**facts, **about})

    def log_densities(
        self,
        inputs: Iterable[tuple[K, Frame]],
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
            predictions = (Prediction(k, _given(y), f._asdict()) for k, f, y in found)
        else:
            maps = self.engine.video(inputs, size, domain, frame_step)
            predictions = (Prediction(k, y) for k, y in maps)
        for number, prediction in enumerate(predictions, 1):
            check_finite(prediction.log_density, f"the prediction of frame {number}")
            yield prediction

    def _frame_features(
        self, inputs: Iterable[tuple[K, Frame]], size: Size | None, domain: str, frame_step: int
    ) -> Iterator[tuple[K, Features, LogDensity | None]]:
        """Yield each key with its frame's features and log-density."""
        states: list[list[State | None]] = [[None] for _ in range(frame_step)]
        for position, (key, x) in enumerate(inputs):
            state = states[position % frame_step]
            yield key, *self.engine.features(x, domain, state, size)


def _check_several(pictures: Any, name: str) -> None:
    if not isinstance(pictures, Iterable):
        raise UserError(f"{name} is a {type(pictures).__name__}; it has to be several pictures")


class _Frames:
    """The frames of a video, which are closed at the end of a `with` statement."""

    def __init__(
        self, pictures: Iterable[PictureLike], step: int, video: VideoFile | None = None
    ) -> None:
        self.pictures = pictures
        self.step = step
        self._video = video

    def __enter__(self) -> _Frames:
        return self

    def __exit__(self, *_: object) -> None:
        if self._video is not None:
            self._video.close()


def _open(
    frames: str | os.PathLike[str] | Iterable[PictureLike], preset: Preset, step: int | None
) -> _Frames:
    """Open a video in any of the forms that `Predictor.video` takes.

    Args:
        frames: see there.
        preset: decides the frame step where `step` is None.
        step: the frame step.
    """
    if not isinstance(frames, str | os.PathLike):
        _check_several(frames, "frames")
        return _Frames(frames, step or preset.frame_step)
    if Path(frames).is_dir():
        return _Frames(_pictures_in(Path(frames)), step or preset.frame_step)
    from unisal.data.video_file import VideoFile  # here, since pictures do without FFmpeg

    video = VideoFile(frames if isinstance(frames, str) else Path(frames))
    return _Frames(_frames_of(video), step or preset.frame_step_for(video.rate), video)


def _is_video(picture: PictureLike) -> bool:
    """Return whether this is the path of a video, or of a folder with its frames."""
    if not isinstance(picture, str | os.PathLike):
        return False
    path = Path(picture)
    if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
        return True
    if isinstance(picture, str) and URL.match(picture):
        return True
    try:
        picture_size(path)
    except UserError:
        return path.is_file() and _can_be_opened(path)
    return False


def _can_be_opened(path: Path) -> bool:
    """Return whether a file is a video."""
    from unisal.data.video_file import VideoFile

    try:
        VideoFile(path).close()
    except UserError:
        return False
    return True


def _frames_of(video: VideoFile) -> Iterator[RGB]:
    for frame in video:
        yield frame.rgb
    if video.damage:
        _LOG.warning("%s", video.damage)


def _pictures_in(folder: Path) -> list[Path]:
    found = list_pictures(folder)
    if not found:
        raise UserError(f"{folder} holds no pictures")
    return found


def _given(log_density: LogDensity | None) -> LogDensity:
    """Return a log-density that was asked for."""
    assert log_density is not None
    return log_density
