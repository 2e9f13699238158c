"""Conversion of pictures of any kind to what the network takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unisal.data.pictures import read_rgb, to_rgb
from unisal.data.transforms import normalise, resize_rgb
from unisal.errors import UserError
from unisal.predict.presets import Preset
from unisal.types import RGB, Size

PictureLike = NDArray[np.uint8] | Image.Image | str | os.PathLike[str]
"""An array `[H, W, 3] uint8`, a PIL image, or the path of a picture file."""


def as_rgb(picture: Any) -> RGB:
    """Return the pixels of a picture in any accepted form.

    Args:
        picture: `[H, W, 3] uint8` RGB array, PIL image, or path of a picture file.

    Returns:
        `[H, W, 3] uint8`, with the EXIF orientation applied.

    Raises:
        UserError: the picture cannot be read, or is an array of another shape or dtype.
    """
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


def prepare(rgb: RGB | Image.Image, input_size: Size) -> Tensor:
    """Resize and normalise a picture for the network.

    Args:
        rgb: `[H, W, 3] uint8`, or a PIL image of mode RGB.
        input_size: (height, width) of the network's input, multiples of 32.

    Returns:
        `[3, *input_size] float32`, ImageNet-normalised.
    """
    return normalise(resize_rgb(rgb, input_size))


def is_picture(pictures: Any) -> TypeGuard[PictureLike]:
    """Return whether this is one picture, not several frames as in an array `[n, H, W, 3]`."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim == 3
    return isinstance(pictures, Image.Image | str | os.PathLike)


def prepare_frames(
    frames: Iterable[PictureLike], preset: Preset
) -> tuple[Size, Iterator[tuple[int, Tensor]]]:
    """Prepare the frames of a video for the network, one by one.

    Args:
        frames: the pictures in order, all of one size.
        preset: decides the size of the network's input.

    Returns:
        The frames' (height, width), (1, 1) if there are none; and an iterator of their numbers from
        1 with what the network takes, `[3, H, W] float32`.

    Raises:
        UserError: a frame cannot be read or differs in size from the first one; names it.
    """
    pictures = _of_one_size(frames)
    first = next(pictures, None)
    if first is None:
        return (1, 1), iter(())
    size = first.shape[0], first.shape[1]
    input_size = preset.input_size_for(size)
    numbered = enumerate(chain([first], pictures), 1)
    return size, ((number, prepare(rgb, input_size)) for number, rgb in numbered)


def _of_one_size(frames: Iterable[PictureLike]) -> Iterator[RGB]:
    """Yield the pixels of the frames; raise if one differs in size."""
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
                f"{size[0]} x {size[1]} (height x width); all frames of a video must have one size"
            )
        yield rgb
