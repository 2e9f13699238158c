"""Predictions as picture files (spec 05, last paragraph)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.data.pictures import MAX_16_BIT
from unisal.files import write_atomically

MAP_QUALITY, OVERLAY_QUALITY = 100, 92
"""JPEG qualities."""


def to_grey_levels(density: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`uint8(p / max(p) * 255)`: a density `[H, W]` as a grey picture, its peak white."""
    peak = density.max()
    relative = density if peak == 1 else density / peak
    levels = np.empty(density.shape, np.uint8)
    return np.multiply(relative, np.float32(255), out=levels, casting="unsafe")


def to_16_bit_grey_levels(density: NDArray[np.float32]) -> NDArray[np.uint16]:
    """`uint16(p / max(p) * 65535)`: the same in 16 bits."""
    return (density / density.max() * MAX_16_BIT).astype(np.uint16)


def write_map(path: Path, density: NDArray[np.float32]) -> None:
    """Write a density as a grey picture; the suffix of `path` tells the format."""
    _write(path, to_grey_levels(density), MAP_QUALITY)


def write_density(path: Path, density: NDArray[np.float32]) -> None:
    """Write a density `[H, W]` as it is, a `.npy` file of float32."""
    write_atomically(path, lambda temporary: np.save(temporary, density))


def write_overlay(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write a colour picture."""
    _write(path, rgb, OVERLAY_QUALITY)


def _write(path: Path, pixels: NDArray[np.uint8], quality: int) -> None:
    if path.suffix.lower() == ".png":
        ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        # A quarter of the time that Pillow needs, for files that are a third larger (measured).
        _, encoded = cv2.imencode(".png", ordered)
        write_atomically(path, lambda temporary: temporary.write_bytes(encoded.tobytes()))
    else:
        picture = Image.fromarray(pixels)
        write_atomically(path, lambda temporary: picture.save(temporary, quality=quality))
