"""Conversion of arrays to what the network and the losses take, as arrays.

See docs/behaviour.md, "Preprocessing".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.data.lanczos import equals_pillow, resize_by_lanczos, size_of
from unisal.types import RGB, STRIDE, Size

RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)
SIDE_RANGE = range(7, 14)
"""Sides of the network's input that are considered for a picture of any size, in cells of 32
pixels."""
AREA_RANGE = (100, 120)
"""The smallest and the largest area that is considered, in cells of 32 x 32 pixels."""
FIXATION_THRESHOLD = 0.5

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels, fractions allowed."""


def best_fitting_size(size: Size, candidates: Sequence[Size]) -> Size:
    """Return the candidate whose ratio h / w is closest to that of `size`; of ties the first."""
    ratio = size[0] / size[1]

    def misfit(candidate: Size) -> float:
        other = candidate[0] / candidate[1]
        return max(ratio / other, other / ratio)

    return min(candidates, key=misfit)


def optimal_input_size(size: Size) -> Size:
    """Return the size of the network's input for a picture of `size`.

    It is close in aspect ratio and has an area of 100 to 120 cells of 32 x 32 pixels.
    """
    n1, n2 = best_fitting_size(size, considered_cells())
    return n1 * STRIDE, n2 * STRIDE


def considered_cells() -> list[Size]:
    """Return what `optimal_input_size` chooses from, in cells of 32 x 32 pixels."""
    return [
        (n1, n2)
        for n1 in SIDE_RANGE
        for n2 in SIDE_RANGE
        if AREA_RANGE[0] <= n1 * n2 <= AREA_RANGE[1]
    ]


def resize_rgb(rgb: RGB | Image.Image, size: Size, box: Box | None = None) -> RGB:
    """Resize a picture with an antialiased Lanczos filter.

    Args:
        rgb: `[H, W, 3] uint8`, or a PIL image of mode RGB.
        size: (height, width) of the result.
        box: the part of the picture to resize; None for all of it.

    Returns:
        `[*size, 3] uint8`.
    """
    if box is None:
        if size_of(rgb) == tuple(size):
            return np.asarray(rgb)
        if equals_pillow(size_of(rgb), size):
            return resize_by_lanczos(rgb, size)
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS, box))


def resize_map(
    saliency_map: NDArray[np.float32], size: tuple[int, ...], box: Box | None = None
) -> NDArray[np.float32]:
    """Resize a map `[H, W] float32`, or a box in it, by bilinear interpolation."""
    bilinear = Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(saliency_map).resize((size[1], size[0]), bilinear, box))


def resize_grey_levels(grey: NDArray[np.uint8], size: Size, nearest: bool) -> NDArray[np.uint8]:
    """Resize grey levels `[H, W]` by an antialiased Lanczos filter, or to the nearest pixel."""
    if grey.shape == tuple(size):
        return grey
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(grey).resize((size[1], size[0]), how))


def centre_crop(picture: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Return the centre of a picture `[H, W, ...]`; black where the picture is smaller."""
    cropped = np.zeros((*size, *picture.shape[2:]), np.uint8)
    source, target = [], []
    for side, wanted in zip(picture.shape, size, strict=False):
        offset = round((side - wanted) / 2)  # Python's rounding: a half goes to the even number
        length = min(side, offset + wanted) - max(0, offset)
        source.append(slice(max(0, offset), max(0, offset) + length))
        target.append(slice(max(0, -offset), max(0, -offset) + length))
    cropped[tuple(target)] = picture[tuple(source)]
    return cropped


def normalise(rgb: RGB) -> NDArray[np.float32]:
    """Normalise a picture with ImageNet's mean and standard deviation.

    Returns:
        `[3, H, W] float32`.
    """
    normalised = np.empty((3, *rgb.shape[:2]), np.float32)
    for channel, levels in enumerate(_normalised_levels()):
        np.take(levels, rgb[..., channel], out=normalised[channel])
    return normalised


@cache
def _normalised_levels() -> NDArray[np.float32]:
    """Return what each level of each channel becomes, `[3, 256]`: a table saves time per pixel."""
    mean, std = np.array(RGB_MEAN, np.float32), np.array(RGB_STD, np.float32)
    levels = np.arange(256, dtype=np.float32)[:, None]
    return np.ascontiguousarray(((levels / 255 - mean) / std).T)


def to_unit_range(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale 8-bit grey levels to [0, 1]."""
    return grey.astype(np.float32) / np.float32(255)


def normalise_map(saliency_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a saliency map of any scale into a density with sum 1; uniform if it is all zero."""
    lowest = saliency_map.min()
    if lowest < 0:
        saliency_map = saliency_map - lowest
    total = saliency_map.sum(dtype=np.float64)
    if total == 0:
        return np.full_like(saliency_map, 1 / saliency_map.size)
    density: NDArray[np.float32] = (saliency_map / total).astype(np.float32)
    return density


def to_fixation_map(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the fixated pixels in a picture of fixations.

    Pictures that hold only 0 and 1 out of 255 or 65535 count too; otherwise they would be blank.

    Args:
        grey: `[H, W]` in [0, 1].

    Returns:
        `[H, W] bool`.
    """
    highest = grey.max()
    if 0 < highest <= np.float32(1 / 255):
        return grey >= highest
    return grey > FIXATION_THRESHOLD
