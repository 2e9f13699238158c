"""Predictions of whole data sets, frame by frame, to be scored or submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from unisal.data import SaliencyDataset
from unisal.errors import UserError
from unisal.inference.densities import check_finite
from unisal.inference.engine import Engine
from unisal.inference.runtime import Frame
from unisal.predict.smooth import median_over_time
from unisal.threads import in_threads
from unisal.types import LogDensity, Size

FRAMES_AHEAD = 12
"""Number of frames of a video that are read before the network asks for them."""


class FrameKey(NamedTuple):
    """Identifies a frame of a data set; an image is a video of one frame."""

    video: int
    """Number of the video or image, from 0."""
    number: int
    """Number of the frame in its video, from 1."""


KeyedPredictions = Iterator[tuple[FrameKey, LogDensity]]


def predict_dataset(
    engine: Engine,
    dataset: SaliencyDataset,
    domain: str,
    size: Literal["frame", "target"] = "target",
    chosen: Sequence[int] | None = None,
    on_error: Callable[[int, UserError], None] | None = None,
    smooth_window: int = 1,
) -> KeyedPredictions:
    """Predict every frame of a data set, in order. Reading and prediction overlap.

    Args:
        engine: runs the network.
        dataset: what to predict.
        domain: the network domain to use.
        size: whether the predictions get the size of the frames or that of the ground truth.
        chosen: the videos or images to predict, by number from 0; None for all of them.
        on_error: called with the number of a video or image that cannot be read or predicted; the
            work continues with the next one. None: the error is raised.
        smooth_window: number of frames of the running median over a video, odd; 1 for none.

    Yields:
        The key of each frame with its log-density `[h, w] float32`. The frames of a video that
        fails are yielded up to the failure.

    Raises:
        UserError: a frame cannot be read, or a prediction is not finite; names it.
    """
    size_of = dataset.frame_size if size == "frame" else dataset.target_size
    chosen = range(len(dataset.lengths())) if chosen is None else chosen
    if not dataset.is_video:
        for index, result in _image_results(engine, dataset, domain, size_of, chosen):
            if not isinstance(result, UserError):
                yield FrameKey(index, 1), result
            elif on_error is not None:
                on_error(index, result)
            else:
                raise result
        return
    for index in chosen:
        try:
            frames = _video_predictions(engine, dataset, domain, size_of(index), index)
            yield from median_over_time(frames, smooth_window)
        except UserError as error:
            if on_error is None:
                raise
            on_error(index, error)


def _image_results(
    engine: Engine,
    dataset: SaliencyDataset,
    domain: str,
    size_of: Callable[[int], Size],
    chosen: Sequence[int],
) -> Iterator[tuple[int, LogDensity | UserError]]:
    """Yield the prediction of each image, or what is wrong with it."""

    def predict(index: int) -> tuple[int, LogDensity | UserError]:
        try:
            frame, size = dataset.read_input(index), size_of(index)
            y = engine.images(frame[None], size, domain, concurrent=True)[0]
            check_finite(y, f"the prediction for {dataset.title(index)}")
        except UserError as error:
            return index, error
        return index, y

    return in_threads(predict, chosen, engine.workers)


def _video_predictions(
    engine: Engine, dataset: SaliencyDataset, domain: str, size: Size, index: int
) -> KeyedPredictions:
    """Yield the predictions of one video's frames in order."""

    def read(key: FrameKey) -> tuple[FrameKey, Frame]:
        return key, dataset.read_input(*key)

    keys = [FrameKey(index, n) for n in range(1, dataset.lengths()[index] + 1)]
    frames = in_threads(read, keys, ahead=FRAMES_AHEAD)
    for key, log_density in engine.video(frames, size, domain, dataset.frame_step_of(index)):
        what = f"frame {key.number} of {dataset.title(index)}"
        check_finite(log_density, f"the prediction for {what}")
        yield key, log_density
