"""Prediction of a video that is still being recorded, frame by frame (`predictor.stream()`)."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count, check_number
from unisal.errors import UserError
from unisal.inference.densities import check_finite, to_density
from unisal.inference.engine import Engine
from unisal.inference.runtime import State
from unisal.predict.inputs import PictureLike, as_rgb, prepare
from unisal.predict.presets import STREAM_RATE, VIDEO_PRESET, Preset, find_preset
from unisal.types import RGB, Density, Size

BINS_PER_CHANNEL = 8
"""Number of bins per colour channel of the histograms that distinguish shots."""
HISTOGRAM_SIDE_PIXELS = 32
"""Height and width of the small pictures that the histograms are computed from."""
CUT_BELOW_OVERLAP = 0.7
"""A shot begins where the histograms of two frames share less than this fraction."""


class Stream:
    """Predicts one frame at a time, from it and the frames before it, in constant time and memory.

    The frames form `frame_step` interleaved sequences with a state of the GRU each, as in
    `Predictor.video` (docs/behaviour.md, "Scoring and prediction"), and the results are the same.

    Args:
        engine: runs the network.
        fps: frames per second of the stream.
        source: the preset or its name, as in `Predictor.video`.
        domain: as in `Predictor.video`.
        frame_step: the distance between frames that the network sees as neighbours. By default the
            one nearest in time to the preset's: for DHF1K every 5th frame at 30 frames per second,
            every 10th at 60, every 4th at 25.
        reset_at_cuts: whether to start afresh where a new shot begins, see `ShotCuts`.

    Raises:
        UserError: an option is wrong.
    """

    def __init__(
        self,
        engine: Engine,
        fps: Fraction | float = STREAM_RATE,
        source: str | Preset = VIDEO_PRESET,
        domain: str | None = None,
        frame_step: int | None = None,
        reset_at_cuts: bool = False,
    ) -> None:
        fps = check_number(fps, "fps", above=True)
        self._preset = source if isinstance(source, Preset) else find_preset(source)
        step = self._preset.frame_step_for(fps) if frame_step is None else frame_step
        self.frame_step = check_count(step, "frame_step")
        self._engine = engine
        self._domain = engine.domain(domain or self._preset.domain)
        self._cuts = ShotCuts() if reset_at_cuts else None
        self._size: Size | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the frames so far: the next one is the first of a new video, of any size."""
        self._forget()
        self._size = None
        if self._cuts is not None:
            self._cuts.reset()

    def step(self, picture: PictureLike, skipped: int = 0, log: bool = False) -> Density:
        """Predict the next frame.

        Args:
            picture: as in `Predictor.image`.
            skipped: how many frames were dropped since the last one. The frame then continues
                the sequence that it would have belonged to, and the sequences of the dropped
                frames continue without them.
            log: whether to return the natural logarithm of the density.

        Returns:
            `[H, W] float32`: a density that sums to 1, or its logarithm.

        Raises:
            UserError: the picture cannot be read or differs in size from those before it, or
                `skipped` is not a whole number of at least 0. The stream stays as it was.
        """
        skipped = check_count(skipped, "skipped", smallest=0)
        rgb = as_rgb(picture)
        size = rgb.shape[0], rgb.shape[1]
        if self._size is not None and self._size != size:
            raise UserError(
                f"the frame is {size[0]} x {size[1]} pixels, those before it "
                f"{self._size[0]} x {self._size[1]} (height x width); reset() starts a new video"
            )
        self._size = size
        self._position += skipped
        if self._cuts is not None and self._cuts.starts_shot(rgb):
            self._forget()
        states = self._states.setdefault(self._position % self.frame_step, [None])
        x = prepare(rgb, self._preset.input_size_for(size))
        log_density = self._engine.step(x, states, size, self._domain)
        check_finite(log_density, "the prediction")
        self._position += 1
        return log_density if log else to_density(log_density)

    def _forget(self) -> None:
        self._position = 0
        self._states: dict[int, list[State | None]] = {}


class ShotCuts:
    """Detects new shots: a frame's colours differ from those of the frame before.

    It compares colour histograms, which hardly change when the camera or its subject moves.
    Measured on photographs of OSIE, 99 % of the changes from one photograph to another are found,
    and none of 120 pans by a fifth of the width within one frame is mistaken for a cut. Slow
    transitions are not found, and a flash may be mistaken for a cut.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the last frame."""
        self._last: NDArray[np.float64] | None = None

    def starts_shot(self, rgb: RGB) -> bool:
        """Return whether a frame `[H, W, 3]` looks unlike the one before; False for the first."""
        last, self._last = self._last, colour_histogram(rgb)
        return last is not None and float(np.minimum(last, self._last).sum()) < CUT_BELOW_OVERLAP


def colour_histogram(rgb: RGB) -> NDArray[np.float64]:
    """Return the colour histogram of a picture, `[BINS_PER_CHANNEL ** 3]` with sum 1.

    A colour between bins counts partly towards each of them, so that a slight change of light never
    moves a whole wall to another bin.
    """
    sides = HISTOGRAM_SIDE_PIXELS, HISTOGRAM_SIDE_PIXELS
    small = cv2.resize(rgb, sides, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    place = small * ((BINS_PER_CHANNEL - 1) / 255)
    lower = np.minimum(place.astype(int), BINS_PER_CHANNEL - 2)
    above = place - lower
    histogram = np.zeros(BINS_PER_CHANNEL**3)
    for corner in product((0, 1), repeat=3):
        share = np.where(corner, above, 1 - above).prod(axis=1)
        bins = (lower + corner) @ (BINS_PER_CHANNEL**2, BINS_PER_CHANNEL, 1)
        histogram += np.bincount(bins, share, BINS_PER_CHANNEL**3)
    return histogram / len(small)
