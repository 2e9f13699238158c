"""What the name of a source means for somebody's own pictures and videos (spec 02, 05)."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import NamedTuple

from unisal.data.transforms import optimal_input_size
from unisal.errors import UserError

Size = tuple[int, int]
"""(height, width)."""


class Source(NamedTuple):
    """How pictures or videos like those of a source are predicted."""

    domain: str
    """Whose modules of the network to use."""
    is_video: bool = True
    frame_step: int = 4
    """How far apart the frames are that the GRU sees one after the other."""
    frame_rate: int = 24
    """Frames per second that `frame_step` is meant for: with it the GRU sees 6 a second."""
    input_size: Size | None = None
    """Of the network for its videos; None: the optimal one for the frames."""
    frame_size: Size | None = None
    """The one size of frames that `input_size` is for; None: all."""
    fine_tuned: bool = False
    """Whether to use the fine-tuned weights, where the run has them."""

    def input_size_for(self, frame_size: Size) -> Size:
        """-> the network's input for a video with frames of that size."""
        if self.input_size and self.frame_size in (None, frame_size):
            return self.input_size
        return optimal_input_size(frame_size)

    def frame_step_for(self, rate: Fraction | float) -> int:
        """-> the step that is nearest to `frame_step` in time in a video of `rate` frames per
        second: 5 for DHF1K at 30, 4 at 25, 10 at 60."""
        return max(1, floor(self.frame_step * rate / self.frame_rate + 0.5))


SOURCES = {
    "DHF1K": Source(
        "DHF1K", frame_step=5, frame_rate=30, input_size=(224, 384), frame_size=(360, 640)
    ),
    "Hollywood": Source("Hollywood", input_size=(224, 416)),
    "UCFSports": Source("UCFSports", input_size=(256, 384)),
    "SALICON": Source("SALICON", is_video=False),
    "MIT1003": Source("SALICON", is_video=False, fine_tuned=True),
    "MIT300": Source("SALICON", is_video=False, fine_tuned=True),
}
IMAGE_SOURCE, VIDEO_SOURCE = "SALICON", "DHF1K"
"""What is taken for images and for videos where no source is named."""
IMAGE_DOMAIN = SOURCES[IMAGE_SOURCE].domain


def find_source(name: str, for_images: bool = False) -> Source:
    """-> the source of that name. For videos an image source will do too: its modules then
    predict the frames one by one.

    Raises:
        UserError: there is none of that name, or it is none for images; lists those allowed.
    """
    allowed = [n for n, source in SOURCES.items() if not (for_images and source.is_video)]
    if name not in allowed:
        kind = "images" if for_images else "videos"
        raise UserError(f"source is {name!r}; for {kind} allowed are {', '.join(allowed)}")
    return SOURCES[name]
