"""A saliency map over its picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

ALPHA = 0.75
"""Opacity of the heat map where the density has its maximum."""


def draw_overlay(
    rgb: NDArray[np.uint8], density: NDArray[np.float32], alpha: float = ALPHA
) -> NDArray[np.uint8]:
    """Lay a heat map over a picture; where the density is low, the picture shows through.

    Args:
        rgb: `[H, W, 3] uint8`.
        density: `[H, W]`, any non-negative scale.
        alpha: opacity at the density's maximum, 0 to 1.

    Returns:
        `[H, W, 3] uint8`.
    """
    peak = float(density.max())
    level = density / peak if peak > 0 else density
    # The square root brings out the weaker of several salient places.
    level = np.sqrt(level, dtype=np.float32)
    heat = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    heat = cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)
    opacity = (alpha * level)[:, :, None]
    return np.rint(rgb * (1 - opacity) + heat * opacity).astype(np.uint8)
