"""Predictions as picture files (spec 05, last paragraph)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.files import write_atomically

MAP_QUALITY, OVERLAY_QUALITY = 100, 92
"""JPEG qualities."""


def to_grey_levels(density: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`uint8(p / max(p) * 255)`: a density `[H, W]` as a grey picture, its peak white."""
    return (density / density.max() * 255).astype(np.uint8)


def write_map(path: Path, density: NDArray[np.float32]) -> None:
    """Write a density as a grey picture; the suffix of `path` tells the format."""
    _write(path, to_grey_levels(density), MAP_QUALITY)


def write_overlay(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write a colour picture."""
    _write(path, rgb, OVERLAY_QUALITY)


def _write(path: Path, pixels: NDArray[np.uint8], quality: int) -> None:
    picture = Image.fromarray(pixels)
    if path.suffix.lower() == ".png":
        write_atomically(path, picture.save)
    else:
        write_atomically(path, lambda temporary: picture.save(temporary, quality=quality))
