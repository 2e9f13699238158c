"""Maps and overlays as picture files, densities as arrays: one file per picture."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unisal.data.pictures import MAX_16_BIT
from unisal.files import write_atomically
from unisal.types import RGB, Density, SaliencyMap
from unisal.writing.hdf5 import whole_h5

MAP_QUALITY, OVERLAY_QUALITY = 100, 92
"""JPEG qualities, from 1 to 100."""


def to_grey_levels(saliency_map: SaliencyMap) -> NDArray[np.uint8]:
    """Turn a saliency map into grey levels, the most salient pixel white.

    Args:
        saliency_map: `[H, W] float32` from 0 to 1.

    Returns:
        `[H, W] uint8`, rounded down: `uint8(p / max(p) * 255)` for a density p.
    """
    levels = np.empty(saliency_map.shape, np.uint8)
    return np.multiply(saliency_map, np.float32(255), out=levels, casting="unsafe")


def to_16_bit_grey_levels(saliency_map: SaliencyMap) -> NDArray[np.uint16]:
    """Turn a saliency map into 16-bit grey levels: `uint16(p / max(p) * 65535)`."""
    return (saliency_map * MAX_16_BIT).astype(np.uint16)


def write_map(path: Path, saliency_map: SaliencyMap) -> None:
    """Write a saliency map as an 8-bit grey picture.

    Args:
        path: the file; its suffix decides the format, as for any picture.
        saliency_map: `[H, W] float32` from 0 to 1.
    """
    _write_picture(path, to_grey_levels(saliency_map), MAP_QUALITY)


def write_16_bit_map(path: Path, saliency_map: SaliencyMap) -> None:
    """Write a saliency map `[H, W]` as a 16-bit grey picture, a `.png` file."""
    _write_picture(path, to_16_bit_grey_levels(saliency_map), MAP_QUALITY)


def write_density(path: Path, density: Density) -> None:
    """Write a density `[H, W] float32` unchanged, as an `.npy` file."""
    written = io.BytesIO()
    np.save(written, density)
    write_atomically(path, lambda temporary: temporary.write_bytes(written.getbuffer()))


def write_density_npz(path: Path, density: Density) -> None:
    """Write a density `[H, W] float32` unchanged, as the array `density` of an `.npz` file."""
    write_atomically(path, lambda temporary: np.savez(temporary, density=density))


def write_density_h5(path: Path, density: Density) -> None:
    """Write a density `[H, W] float32` unchanged, as the data set `density` of an HDF5 file."""
    with whole_h5(path) as (file, _):
        file["density"] = density


def write_overlay(path: Path, rgb: RGB) -> None:
    """Write a colour picture `[H, W, 3] uint8`; the suffix of `path` decides the format."""
    _write_picture(path, rgb, OVERLAY_QUALITY)


def _write_picture(path: Path, pixels: NDArray[np.uint8 | np.uint16], quality: int) -> None:
    if path.suffix.lower() == ".png":
        ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        # It takes a quarter of Pillow's time, and files are a third larger (measured).
        _, encoded = cv2.imencode(".png", ordered)
        write_atomically(path, lambda temporary: temporary.write_bytes(encoded.tobytes()))
    else:
        picture = Image.fromarray(pixels)
        write_atomically(path, lambda temporary: picture.save(temporary, quality=quality))
