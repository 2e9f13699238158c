"""Conversion of pictures of any kind to what the network takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.data.pictures import PictureBytes, read_rgb, to_rgb
from unisal.data.transforms import normalise, resize_rgb
from unisal.errors import UserError, cause
from unisal.predict.presets import Preset
from unisal.types import RGB, Size

if TYPE_CHECKING:
    from torch import Tensor

Content = bytes | bytearray | memoryview
"""What a picture file holds."""
PictureLike: TypeAlias = (
    "NDArray[np.uint8] | NDArray[np.floating] | Tensor | Image.Image | str | os.PathLike[str]"
    " | Content | IO[bytes]"
)
"""Whatever `as_rgb` takes."""
CHANNELS = (1, 3, 4)
"""Grey, RGB, and RGB with alpha."""
FLOAT_ROUNDING = 1e-3
"""How far floats may leave [0, 1]: less than half of one of the 255 levels that they become."""


def as_rgb(picture: Any) -> RGB:
    """Return the pixels of a picture in any accepted form.

    Args:
        picture: one of

            * an array `[H, W]` or `[H, W, 1]` (grey), `[H, W, 3]` (RGB) or `[H, W, 4]` (RGB and
              alpha, which is laid on white), uint8 from 0 to 255 or float from 0 to 1;
            * a tensor of PyTorch `[H, W]`, `[1, H, W]`, `[3, H, W]` or `[4, H, W]`, of the same
              types and ranges, on any device;
            * a PIL image;
            * the path of a picture file (a `zipfile.Path` as well), its content as bytes, or a file
              that is open for reading bytes, which is read from where it stands to its end.

    Returns:
        `[H, W, 3] uint8`, with the EXIF orientation applied.

    Raises:
        UserError: the picture cannot be read, or is an array of another shape, dtype or range.
    """
    if isinstance(picture, str | os.PathLike):
        return read_rgb(Path(picture))
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if isinstance(picture, Content):
        return read_rgb(PictureBytes(picture, "the picture"))
    if _is_file(picture):
        return _read_file(picture)
    return _from_array(_channels_last(picture) if _is_tensor(picture) else picture)


def _is_tensor(picture: Any) -> TypeGuard[Tensor]:
    """Return whether this is a tensor of PyTorch, which then must have been loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(picture, torch.Tensor)


def _is_file(picture: Any) -> bool:
    """Return whether this is an open file, or like `zipfile.Path` the place of a file."""
    return hasattr(picture, "read") or hasattr(picture, "read_bytes")


def _read_file(file: Any) -> RGB:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "the picture"
    try:
        content = file.read() if hasattr(file, "read") else file.read_bytes()
    except Exception as error:  # any program may have written what reads
        raise UserError(f"{name} cannot be read: {cause(error)}") from None
    if isinstance(content, str):
        raise UserError(f"{name} is open as text; open it with mode 'rb'")
    if not isinstance(content, Content):
        raise UserError(f"{name} gives a {type(content).__name__} when it is read, not bytes")
    return read_rgb(PictureBytes(content, name))


def _channels_last(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor `[C, H, W]` as an array `[H, W, C]`; others as they are."""
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    try:
        array: NDArray[Any] = tensor.detach().cpu().numpy()
    except (NotImplementedError, RuntimeError, TypeError) as error:  # sparse, quantised, no values
        raise UserError(f"the picture is a tensor that cannot be read: {cause(error)}") from None
    return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] in CHANNELS else array


def _from_array(picture: Any) -> RGB:
    try:
        array = np.asarray(picture)
    except (TypeError, ValueError) as error:  # lists of several lengths
        raise UserError(f"the picture is no array: {cause(error)}") from None
    if array.dtype == object:
        raise UserError(
            f"the picture is a {type(picture).__name__}; it has to be an array, a tensor, a PIL "
            "image, the path of a file, its content, or an open file"
        )
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)
    if not fits or 0 in array.shape or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise UserError(
            f"the picture is an array {list(array.shape)} of {array.dtype}; it has to be "
            "[height, width, 3] uint8 RGB, the same in float from 0 to 1, or one with 1 or 4 "
            "channels; tensors are [channels, height, width]"
        )
    if array.dtype != np.uint8:
        array = _to_levels(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[2] == 4:
        return to_rgb(Image.fromarray(np.ascontiguousarray(array)))
    return array if array.shape[2] == 3 else array.repeat(3, axis=2)


def _to_levels(array: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Bring floats from 0 to 1 to the nearest of 256 levels."""
    low, high = array.min(), array.max()
    if not (low >= -FLOAT_ROUNDING and high <= 1 + FLOAT_ROUNDING):
        found = "NaN" if np.isnan(low) else f"values from {low:.4g} to {high:.4g}"
        is_levels = low >= 0 and 2 <= high <= 255
        hint = "levels from 0 to 255 have to be uint8, and " if is_levels else ""
        raise UserError(
            f"the picture is an array {list(array.shape)} of {array.dtype} that holds {found}; "
            f"{hint}floats have to be from 0 to 1"
        )
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


def prepare(rgb: RGB | Image.Image, input_size: Size) -> NDArray[np.float32]:
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
    if isinstance(pictures, np.ndarray) or _is_tensor(pictures):
        return pictures.ndim < 4
    is_one = isinstance(pictures, Image.Image | str | os.PathLike | Content)
    return is_one or _is_file(pictures)


def prepare_frames(
    frames: Iterable[PictureLike], preset: Preset
) -> tuple[Size, Iterator[tuple[int, NDArray[np.float32]]]]:
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
