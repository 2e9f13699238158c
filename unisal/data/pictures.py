"""Reading of picture files: any common kind in, plain arrays out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from unisal.data.metadata import (
    BEGINNINGS,
    EXCHANGED,
    TURNS,
    orientation,
    says_more_after_pixels,
    without_metadata,
)
from unisal.data.picture_kinds import advice, list_files, prepare_for
from unisal.errors import UserError, cause
from unisal.types import RGB, Size

SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
MAX_16_BIT = 65535
RGB_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Modes of 8 bits and less that have a single right conversion to RGB."""
METADATA_KEYS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Where Pillow keeps what may name an orientation."""
T = TypeVar("T")


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder in natural order, without hidden files."""
    return list_files(folder).pictures


class PictureBytes(io.BytesIO):
    """The content of a picture file, for `read_rgb`.

    Args:
        content: the bytes.
        name: what messages call it.
    """

    def __init__(self, content: bytes | bytearray | memoryview, name: str) -> None:
        super().__init__(bytes(content))  # a view may have gaps
        self._name = name

    def __str__(self) -> str:
        return self._name


def read_rgb(path: Path | PictureBytes) -> RGB:
    """Read a photograph as RGB, the right way up.

    Grey, palette, CMYK and 16-bit grey pictures are converted, transparent ones are laid on white,
    and the orientation in the metadata is applied. Metadata that cannot be read is left out.

    Returns:
        `[H, W, 3] uint8`.

    Raises:
        UserError: the file is not a picture, is damaged or cut off, or is of a kind (32-bit float,
            Lab, ...) that has no single right conversion.
    """
    return np.array(read_rgb_image(path))


def read_rgb_image(path: Path | PictureBytes) -> Image.Image:
    """Read a photograph as `read_rgb` does, as a PIL image, which can be resized without a copy."""
    return _read(path, lambda image: _as_rgb(_decoded(image, upright=True)))


def to_rgb(image: Image.Image) -> RGB:
    """Convert a PIL image to RGB as `read_rgb` does.

    Raises:
        UserError: it cannot be decoded or converted.
    """
    try:
        _check_sides(image)
        image.load()
        return np.array(_as_rgb(_turned(image, orientation(image))))
    except UserError as error:
        raise UserError(f"the picture {error}") from None
    except Exception as error:  # decoders raise many types
        raise UserError(f"the picture is damaged or cut off: {cause(error)}") from None


def read_grey(path: Path) -> NDArray[np.float32]:
    """Read a map as `[H, W] float32` in [0, 1]: 8-bit levels over 255, 16-bit levels over 65535.

    Raises:
        UserError: the file is missing, not a picture, or damaged.
    """

    def convert(image: Image.Image) -> NDArray[np.float32]:
        image = _decoded(image, upright=False)
        if image.mode in SIXTEEN_BIT_MODES:
            return np.asarray(image, dtype=np.float32) / np.float32(MAX_16_BIT)
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)

    return _read(path, convert)


def read_grey_levels(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit map as it is stored: `[H, W] uint8`.

    Raises:
        UserError: the file is missing, not a picture, or damaged.
    """
    return _read(path, lambda image: np.asarray(_decoded(image, upright=False).convert("L")))


def picture_size(path: Path) -> Size:
    """Read the size from a file's header, before EXIF orientation."""
    return _read(path, lambda image: (image.height, image.width))


def displayed_size(path: Path) -> Size:
    """Read the size from a file's header, after orientation, as `read_rgb` applies it."""
    return _read(path, _displayed_size)


def _displayed_size(image: Image.Image) -> Size:
    width, height = image.size
    if isinstance(image, TiffImageFile):  # of which Pillow's size is that before or after turning
        width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    elif isinstance(image, PngImageFile) and image.fp is not None:
        if says_more_after_pixels(image.fp):
            image.load()
        elif not image.info.keys() & METADATA_KEYS:
            return height, width  # to find out, Pillow would decode the pixels
    return (width, height) if orientation(image) in EXCHANGED else (height, width)


def _decoded(image: Image.Image, upright: bool) -> Image.Image:
    """Decode the pixels of an open file, turned as the metadata says if `upright`; TIFF always."""
    if not isinstance(image, TiffImageFile):
        image.load()
        return _turned(image, orientation(image)) if upright else image
    turn = orientation(image)
    # It would read all metadata, turn the pixels and write the metadata anew, which may fail.
    image.load_end = _nothing  # type: ignore[method-assign]
    image.load()
    return _turned(image, turn)


def _nothing() -> None:
    pass


def _turned(image: Image.Image, stored: int) -> Image.Image:
    """Return a decoded picture the right way up, whose orientation is `stored`."""
    return image.transpose(TURNS[stored]) if stored in TURNS else image


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture to mode RGB."""
    if image.mode in SIXTEEN_BIT_MODES:
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > MAX_16_BIT:
            raise UserError("holds 32-bit integers; only 8 and 16 bits per channel can be read")
        eight_bit = np.rint(grey / (MAX_16_BIT / 255)).astype(np.uint8)
        return Image.fromarray(eight_bit).convert("RGB")
    if image.mode not in RGB_MODES:
        raise UserError(
            f"is of mode {image.mode!r}, which cannot be converted to RGB unambiguously"
        )
    if image.mode == "La":  # Pillow does not convert it to RGBA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_sides(image: Image.Image) -> None:
    if 0 in image.size:
        raise UserError(
            f"is {image.height} x {image.width} pixels (height x width), so it is empty"
        )


def _read(path: Path | PictureBytes, use: Callable[[Image.Image], T]) -> T:
    """Open a picture file and call `use` with it; without its metadata where that fails.

    Raises:
        UserError: the file cannot be opened, or `use` fails; names it.
    """
    failure: Exception | None = None
    prepare_for(path)
    for content in _attempts(path):
        try:
            with Image.open(content) as image:
                _check_sides(image)
                return use(image)
        except UserError as error:
            raise UserError(f"{path} {error}") from None
        except Exception as error:  # decoders raise many types
            failure = failure or error
            if isinstance(error, Image.DecompressionBombError):
                break
    assert failure is not None
    raise UserError(f"{path} {_fault(path, failure)}") from None


def _attempts(path: Path | PictureBytes) -> Iterator[Path | io.BytesIO]:
    """Yield a picture file; then, if it may be of use, its content with less metadata."""
    yield path
    try:
        if isinstance(path, PictureBytes):
            content = path.getvalue()
        else:
            with path.open("rb") as file:
                head = file.read(max(map(len, BEGINNINGS)))
                content = head + file.read() if head.startswith(BEGINNINGS) else b""
    except (OSError, ValueError, MemoryError):
        return  # the first attempt has found the same
    yield from map(io.BytesIO, without_metadata(content))


def _fault(path: Path | PictureBytes, error: Exception) -> str:
    """Say why a picture file could not be opened or decoded."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, IsADirectoryError):
        return "is a folder; expected a picture"
    if isinstance(error, UnidentifiedImageError):
        return f"is not a picture that can be read{advice(path)}"
    of_system = isinstance(error, OSError) and error.errno is not None
    if of_system or isinstance(error, Image.DecompressionBombError):
        return f"cannot be read: {cause(error)}"
    return f"is damaged or cut off: {cause(error)}"
