"""From decoded frames, in all the ways that films are coded, to RGB as on an ordinary display."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image

from unisal.data.pictures import to_rgb as picture_to_rgb
from unisal.data.tone_mapping import HLG, PQ, tone_mapped
from unisal.types import RGB, Size

UNKNOWN_MATRICES = (2, 3)
"""Numbers of ITU-T H.273 that name no matrix: unspecified and reserved."""
BT2020 = 9
"""The number of the matrix; PyAV has no name for it before 18."""
SD_SIZE = 576, 1279
"""Height and width up to which a film that does not say is taken for standard definition."""


def frame_to_rgb(frame: av.VideoFrame, size: Size) -> RGB:
    """Convert a decoded frame to RGB.

    Films in PQ and HLG are tone-mapped, see `unisal.data.tone_mapping`. A film that does not name
    its matrix is taken as players take it: BT.709 for high definition, BT.601 below. Transparent
    frames are laid on white, as pictures are.

    Args:
        frame: as the decoder gives it.
        size: (height, width) to scale it to.

    Returns:
        `[H, W, 3] uint8`.
    """
    wanted: dict[str, Any] = {"height": size[0], "width": size[1]}
    is_hdr = frame.color_trc in (PQ, HLG)
    matrix = None if frame.format.is_rgb else _assumed_matrix(frame, is_hdr)
    if matrix is not None:
        wanted["src_colorspace"] = matrix
    if is_hdr:
        codes = frame.to_ndarray(format="rgb48le", **wanted)
        return tone_mapped(
            codes.astype(np.uint16, copy=False), frame.color_trc, frame.color_primaries
        )
    if _has_alpha(frame.format):
        rgba = frame.to_ndarray(format="rgba", **wanted).astype(np.uint8, copy=False)
        return picture_to_rgb(Image.fromarray(rgba))
    return frame.to_ndarray(format="rgb24", **wanted).astype(np.uint8, copy=False)


def _assumed_matrix(frame: av.VideoFrame, is_hdr: bool) -> int | None:
    """Return the matrix of a frame that names none; None leaves it to FFmpeg, that is BT.601."""
    if frame.colorspace not in UNKNOWN_MATRICES:
        return None
    if is_hdr:
        return BT2020
    is_hd = frame.height > SD_SIZE[0] or frame.width > SD_SIZE[1]
    return Colorspace.ITU709 if is_hd else None


def _has_alpha(kind: av.VideoFormat) -> bool:
    return kind.has_palette or any(component.is_alpha for component in kind.components)
