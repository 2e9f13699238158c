"""Reading of picture files: any common kind in, plain arrays out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from unisal.data.picture_kinds import advice, list_files, prepare_for
from unisal.errors import UserError
from unisal.types import RGB, Size

SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
MAX_16_BIT = 65535
TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)
"""EXIF orientations with height and width exchanged."""


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
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


def read_rgb(path: Path | PictureBytes) -> RGB:
    """Read a photograph as RGB, the right way up.

    Grey, palette, CMYK and 16-bit grey pictures are converted, transparent ones are laid on white,
    and the EXIF orientation is applied.

    Returns:
        `[H, W, 3] uint8`.

    Raises:
        UserError: the file is not a picture, is damaged or cut off, or is of a kind (32-bit float,
            Lab, ...) that has no single right conversion.
    """
    return np.array(read_rgb_image(path))


def read_rgb_image(path: Path | PictureBytes) -> Image.Image:
    """Read a photograph as `read_rgb` does, as a PIL image, which can be resized without a copy."""
    with _open(path) as image:
        try:
            return _to_rgb_image(image)
        except UserError as error:
            raise UserError(f"{path} {error}") from None
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise UserError(f"{path} is damaged or cut off: {error}") from None


def to_rgb(image: Image.Image) -> RGB:
    """Convert a PIL image to RGB as `read_rgb` does."""
    return np.array(_to_rgb_image(image))


def _to_rgb_image(image: Image.Image) -> Image.Image:
    """Convert a PIL image to mode RGB, the right way up."""
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in SIXTEEN_BIT_MODES:
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > MAX_16_BIT:
            raise UserError("holds 32-bit integers; only 8 and 16 bits per channel can be read")
        eight_bit = np.rint(grey / (MAX_16_BIT / 255)).astype(np.uint8)
        return Image.fromarray(eight_bit).convert("RGB")
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr"):
        raise UserError(
            f"is of mode {image.mode!r}, which cannot be converted to RGB unambiguously"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def read_grey(path: Path) -> NDArray[np.float32]:
    """Read a map as `[H, W] float32` in [0, 1]: 8-bit levels over 255, 16-bit levels over 65535.

    Raises:
        UserError: the file is missing, not a picture, or damaged.
    """
    with _open(path) as image:
        try:
            if image.mode in SIXTEEN_BIT_MODES:
                return np.asarray(image, dtype=np.float32) / np.float32(MAX_16_BIT)
            return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise UserError(f"{path} is damaged or cut off: {error}") from None


def read_grey_levels(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit map as it is stored: `[H, W] uint8`.

    Raises:
        UserError: the file is missing, not a picture, or damaged.
    """
    with _open(path) as image:
        try:
            return np.asarray(image.convert("L"))
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise UserError(f"{path} is damaged or cut off: {error}") from None


def picture_size(path: Path) -> Size:
    """Read the size from a file's header, before EXIF orientation."""
    with _open(path) as image:
        return image.height, image.width


def displayed_size(path: Path) -> Size:
    """Read the size from a file's header, after EXIF orientation, as `read_rgb` applies it."""
    with _open(path) as image:
        if not image.info.keys() & {"exif", "xmp", "XML:com.adobe.xmp"}:
            return image.height, image.width  # to find more, PIL would decode all of a PNG file
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation) in TRANSPOSED_ORIENTATIONS
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise UserError(f"{path} is damaged or cut off: {error}") from None
        return (image.width, image.height) if turned else (image.height, image.width)


def _open(path: Path | PictureBytes) -> Image.Image:
    """Open a picture file; only its header is read."""
    try:
        prepare_for(path)
        return Image.open(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; expected a picture") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a picture that can be read{advice(path)}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
