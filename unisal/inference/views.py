"""Several views of a frame that are predicted one by one and averaged (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.errors import UserError
from unisal.inference.densities import Logits
from unisal.types import STRIDE

MIRROR, SCALES = "mirror", "scales"
TTA = (MIRROR, SCALES)
"""What the option `tta` may name."""
SIDE_SCALES = (0.75, 1.25)
"""The other sizes of the frame, relative to its height and width."""

Tta = str | Sequence[str] | None
"""Names of `TTA`, separated by commas or in a sequence; None for none."""


class View(NamedTuple):
    """One way to show a frame to the network."""

    mirrored: bool = False
    """Whether left and right are exchanged."""
    scale: float = 1
    """What height and width are multiplied by."""

    def of(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network sees.

        Args:
            frame: `[3, H, W] float32`, H and W multiples of 32.

        Returns:
            `[3, h, w] float32`: the frame itself, or a new one, whose sides are the multiples of 32
            that are nearest to the scaled ones.
        """
        if self.scale != 1:
            size = [_scaled_side(side, self.scale) for side in frame.shape[1:]]
            how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
            pixels = np.ascontiguousarray(frame.transpose(1, 2, 0))  # [H, W, 3]
            resized = cv2.resize(pixels, (size[1], size[0]), interpolation=how)
            frame = np.ascontiguousarray(resized.transpose(2, 0, 1))
        return np.ascontiguousarray(frame[..., ::-1]) if self.mirrored else frame

    def back(self, logits: Logits) -> Logits:
        """Return the logits `[h, w]` of what the network saw, with left and right as in the frame.

        Returns:
            `[h, w] float32`; its size stays that of the view.
        """
        if self.mirrored:
            logits = logits[..., ::-1]
        return np.ascontiguousarray(logits)


def read_tta(tta: Tta) -> tuple[str, ...]:
    """Read the option `tta`.

    Returns:
        What it names, each once, in the order of `TTA`.

    Raises:
        UserError: it names something else.
    """
    names = tta.split(",") if isinstance(tta, str) else list(tta or ())
    found = {str(name).strip() for name in names} - {""}
    if unknown := sorted(found - set(TTA)):
        raise UserError(f"tta names {', '.join(unknown)}; known are {', '.join(TTA)}")
    return tuple(name for name in TTA if name in found)


def views_of(tta: Tta) -> tuple[View, ...]:
    """Return the views that are averaged, the frame itself first.

    Raises:
        UserError: see `read_tta`.
    """
    names = read_tta(tta)
    scales = (1, *SIDE_SCALES) if SCALES in names else (1,)
    sides = (False, True) if MIRROR in names else (False,)
    return tuple(View(mirrored, scale) for scale in scales for mirrored in sides)


def _scaled_side(side: int, scale: float) -> int:
    """Return the multiple of 32 that is nearest to a scaled side, at least one."""
    return STRIDE * max(1, floor(side * scale / STRIDE + 0.5))
