"""Pillow's antialiased Lanczos filter, the same numbers in half the time.

Pillow resizes the rows of a picture, rounds to 8 bits, then resizes the columns, with weights that
are whole multiples of 2**-22 (`src/libImaging/Resample.c`). Here a few neighbouring pixels of the
result at a time are one product of matrices. In float64 such a product is exact, so that every
pixel is Pillow's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.types import RGB, Size

SUPPORT = 3
"""How many zeros of the filter lie on each side."""
WEIGHT_STEP = 2.0**-22
"""What Pillow's weights are multiples of."""
TOGETHER = 8
"""Pixels of the result in one product. More of them share fewer pixels of the picture."""
LARGEST_PRODUCT = 200_000
"""Multiply-adds of one product. OpenBLAS distributes larger ones over threads, which then spin."""
STRIP_BYTES = 4 << 20
"""Memory for the part of a picture that is worked on."""


class Product(NamedTuple):
    """The weights of a few neighbouring pixels of a resized line."""

    target: slice
    """The pixels of the result."""
    source: slice
    """The pixels that they are made of."""
    weights: NDArray[np.float64]
    """`[source, target]`."""


def equals_pillow(size: Size, new_size: Size) -> bool:
    """Return whether `resize_by_lanczos` does in this case what Pillow does.

    Up to version 12 Pillow always resizes rows before columns, as is done here; since version 13
    not where a picture gets so much lower.

    Args:
        size: (height, width) of the picture.
        new_size: (height, width) of the result.
    """
    lower, narrower = size[0] - new_size[0], size[1] - new_size[1]
    return lower <= max(0, 2 * narrower)


def resize_by_lanczos(rgb: RGB | Image.Image, size: Size) -> RGB:
    """Resize a picture as Pillow's `resize` with `Resampling.LANCZOS` does.

    Args:
        rgb: `[H, W, 3] uint8`, or a PIL image of mode RGB.
        size: (height, width) of the result.

    Returns:
        `[*size, 3] uint8`. Where `equals_pillow`, it is equal to Pillow's in every pixel.
    """
    return _resized_columns(_resized_rows(rgb, size[1]), size[0]).transpose(1, 2, 0)


def size_of(rgb: RGB | Image.Image) -> Size:
    """Return the (height, width) of a picture."""
    return rgb.shape[:2] if isinstance(rgb, np.ndarray) else (rgb.height, rgb.width)


def _resized_rows(rgb: RGB | Image.Image, new_width: int) -> NDArray[np.uint8]:
    """Return the colours `[3, H, new_width]` of a picture of another width."""
    height, width = size_of(rgb)
    products = _products(width, new_width)
    largest = max(product.weights.size for product in products)
    fitting = min(STRIP_BYTES // (3 * 8 * width), LARGEST_PRODUCT // (3 * largest))
    n_rows = max(1, min(height, fitting))
    planes = np.empty((3, height, new_width), np.uint8)
    strip, resized = np.empty((3, n_rows, width)), np.empty((3, n_rows, new_width))
    lines, resized_lines = strip.reshape(-1, width), resized.reshape(-1, new_width)
    for top in range(0, height, n_rows):
        rows = slice(top, min(height, top + n_rows))
        n = rows.stop - top
        for channel, plane in enumerate(_planes(rgb, rows)):
            strip[channel, :n] = plane
        for target, source, weights in products:
            np.matmul(lines[:, source], weights, out=resized_lines[:, target])
        for channel in range(3):
            _round(resized[channel, :n], planes[channel, rows])
    return planes


def _planes(rgb: RGB | Image.Image, rows: slice) -> Sequence[NDArray[np.uint8]]:
    """Return each colour `[n, W]` of some rows of a picture."""
    if isinstance(rgb, np.ndarray):
        planes: Any = cv2.split(rgb[rows])
        return planes
    # Pillow stores four bytes per pixel: colour by colour it copies them several times as fast.
    part = rgb.crop((0, rows.start, rgb.width, rows.stop))
    copies = (part.tobytes("raw", colour) for colour in "RGB")
    return [np.frombuffer(copy, np.uint8).reshape(part.height, -1) for copy in copies]


def _resized_columns(planes: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Return colours `[3, H, W]` as `[3, height, W]`."""
    width = planes.shape[2]
    out = np.empty((3, height, width), np.uint8)
    resized = np.empty((height, width))
    for channel, plane in enumerate(planes):
        columns = plane.astype(np.float64)
        for target, source, weights in _products(planes.shape[1], height):
            np.matmul(weights.T, columns[source], out=resized[target])
        _round(resized, out[channel])
    return out


def _round(values: NDArray[np.float64], out: NDArray[np.uint8]) -> None:
    """Round to the nearest of 256 levels, halves upwards: values are multiples of 2**-22."""
    # With `add`, OpenCV may take a narrow array for a colour.
    cv2.addWeighted(values, 1, values, 0, WEIGHT_STEP / 2, dst=out, dtype=cv2.CV_8U)


@lru_cache(maxsize=16)
def _products(length: int, new_length: int) -> list[Product]:
    """Return the products that resize a line of one length to another one."""
    scale = length / new_length
    stretch = max(scale, 1.0)
    centres = (np.arange(new_length) + 0.5) * scale
    firsts = np.maximum((centres - SUPPORT * stretch + 0.5).astype(int), 0)
    ends = np.minimum((centres + SUPPORT * stretch + 0.5).astype(int), length)
    products = []
    for first in range(0, new_length, TOGETHER):
        target = slice(first, min(first + TOGETHER, new_length))
        source = slice(int(firsts[target].min()), int(ends[target].max()))
        weights = np.zeros((source.stop - source.start, target.stop - first))
        for column, pixel in enumerate(range(first, target.stop)):
            used = np.arange(firsts[pixel], ends[pixel])
            found = _lanczos((used - centres[pixel] + 0.5) / stretch)
            weights[used - source.start, column] = found / found.sum()
        products.append(Product(target, source, _quantised(weights)))
    return products


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < SUPPORT, np.sinc(x) * np.sinc(x / SUPPORT), 0)


def _quantised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to the nearest multiple of `WEIGHT_STEP`, halves away from zero."""
    steps = np.trunc(weights / WEIGHT_STEP + np.copysign(0.5, weights))
    return np.ascontiguousarray(steps * WEIGHT_STEP)
