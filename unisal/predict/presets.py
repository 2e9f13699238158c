"""Presets: how somebody's own pictures and videos are predicted, named after the source that they
resemble most (docs/behaviour.md, "Commands and files")."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import NamedTuple

from unisal.data.transforms import optimal_input_size
from unisal.errors import UserError
from unisal.types import Size

STREAM_RATE = 30
"""Frames per second of a stream, where nothing else is said."""


class Preset(NamedTuple):
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
        """Return the network's input size for a video whose frames have that size."""
        if self.input_size and self.frame_size in (None, frame_size):
            return self.input_size
        return optimal_input_size(frame_size)

    def frame_step_for(self, rate: Fraction | float) -> int:
        """Return the step that is nearest to `frame_step` in time.

        Args:
            rate: frames per second of the video: for DHF1K 30 gives 5, 25 gives 4, 60 gives 10.
        """
        return max(1, floor(self.frame_step * rate / self.frame_rate + 0.5))


PRESETS = {
    "DHF1K": Preset(
        "DHF1K", frame_step=5, frame_rate=30, input_size=(224, 384), frame_size=(360, 640)
    ),
    "Hollywood": Preset("Hollywood", input_size=(224, 416)),
    "UCFSports": Preset("UCFSports", input_size=(256, 384)),
    "SALICON": Preset("SALICON", is_video=False),
    "MIT1003": Preset("SALICON", is_video=False, fine_tuned=True),
    "MIT300": Preset("SALICON", is_video=False, fine_tuned=True),
}
IMAGE_PRESET, VIDEO_PRESET = "SALICON", "DHF1K"
"""Taken for images and for videos where no preset is named."""
IMAGE_DOMAIN = PRESETS[IMAGE_PRESET].domain


def find_preset(name: str, for_images: bool = False) -> Preset:
    """Return the preset of that name.

    Args:
        name: of the source that the pictures or videos resemble most.
        for_images: whether it has to be a preset for images. Videos take either kind: with one
            for images the frames are predicted one by one.

    Raises:
        UserError: there is no such preset, or it is not for images; lists those allowed.
    """
    allowed = [n for n, preset in PRESETS.items() if not (for_images and preset.is_video)]
    if name not in allowed:
        kind = "images" if for_images else "videos"
        raise UserError(f"source is {name!r}; for {kind} allowed are {', '.join(allowed)}")
    return PRESETS[name]
