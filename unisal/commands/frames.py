"""Frames of videos that are folders of pictures: checked, and read ahead of the network."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from unisal.data.pictures import displayed_size, read_rgb_image
from unisal.errors import UserError
from unisal.inference.runtime import Frame
from unisal.predict.inputs import prepare
from unisal.threads import in_threads
from unisal.types import Size

FRAMES_AHEAD = 4
"""Number of frames of a video that may wait between reading and the network, and between the
network and each writer."""


K = TypeVar("K")


def check_frames(frames: Sequence[Path]) -> Size:
    """Check from the headers alone that a video's frames are pictures of one size.

    Args:
        frames: at least one picture file.

    Returns:
        Their (height, width).

    Raises:
        UserError: a frame is not a picture, or differs in size from the first one; names it.
    """
    first = displayed_size(frames[0])
    for path in frames[1:]:
        if (size := displayed_size(path)) != first:
            raise UserError(
                f"{path} is {size[0]} x {size[1]} pixels, the first frame {frames[0].name} "
                f"{first[0]} x {first[1]} (height x width); all frames of a video must have one "
                "size"
            )
    return first


def read_frames(
    frames: Iterable[Path],
    size: Size,
    input_size: Size,
    workers: int,
    key: Callable[[Path, Image.Image], K],
) -> Generator[tuple[K, Frame], None, None]:
    """Read and prepare a video's frames, a few in advance, in threads of their own.

    Args:
        frames: picture files.
        size: (height, width) of the frames.
        input_size: (height, width) of the network's input.
        workers: number of threads.
        key: makes whatever a frame is to be known by, given its file and its picture (of mode RGB,
            with the EXIF orientation applied). It stays in memory until the frame is written.

    Yields:
        The key of each frame with what the network takes, `[3, *input_size] float32`, in order.

    Raises:
        UserError: a frame is damaged or of another size; raised when its turn has come.
    """

    def read(path: Path) -> tuple[K, Frame]:
        image = read_rgb_image(path)
        if (image.height, image.width) != size:
            raise UserError(f"{path} has another size than its header says")
        return key(path, image), prepare(image, input_size)

    return in_threads(read, frames, workers, FRAMES_AHEAD)
