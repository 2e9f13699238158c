"""Saliency maps as heat maps over their pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.types import RGB, SaliencyMap

ALPHA = 0.75
"""Opacity of the heat map at the most salient pixel."""


def draw_overlay(rgb: RGB, saliency_map: SaliencyMap, alpha: float = ALPHA) -> RGB:
    """Lay a heat map over a picture, which shows through where little is salient.

    Args:
        rgb: `[H, W, 3] uint8`.
        saliency_map: `[H, W] float32` from 0 to 1. Maps of any other scale, densities for instance,
            have to be scaled first, see `scale_to_peak`.
        alpha: opacity where the map is 1, from 0 to 1.

    Returns:
        `[H, W, 3] uint8`.
    """
    # The square root brings out the weaker of several salient places.
    level = np.sqrt(saliency_map, dtype=np.float32)
    heat = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    heat = cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)
    opacity = (alpha * level)[:, :, None]
    return np.rint(rgb * (1 - opacity) + heat * opacity).astype(np.uint8)


def scale_to_peak(values: NDArray[np.float32]) -> SaliencyMap:
    """Divide a map by its highest value, so that it can be drawn.

    Args:
        values: `[H, W]`, of any non-negative scale.

    Returns:
        `[H, W]` from 0 to 1; a map that is all zero stays so.
    """
    peak = float(values.max())
    return values / peak if peak > 0 else values
