"""Pictures of where a prediction is too high, and where too low."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.types import RGB

TOO_MUCH_COLOUR, TOO_LITTLE_COLOUR = (202, 74, 16), (28, 92, 190)
"""RGB colours of too much and of too little; colour-blind people can distinguish them."""
FADED_LEVEL, PHOTO_SHARE = 245, 0.3
"""The grey level that the picture fades to, and the share of the picture that is left."""
DOT_RADIUS_SHARE = 0.004
"""Radius of a fixation, as a fraction of the picture's longer side."""


def draw_difference(rgb: RGB, prediction: NDArray[np.float32], truth: NDArray[np.float32]) -> RGB:
    """Lay the difference of two densities over a faded picture.

    A colour is at full strength where the densities differ by the ground truth's maximum.

    Args:
        rgb: `[H, W, 3] uint8`.
        prediction: `[H, W] float32`, of any non-negative scale; not all zero.
        truth: the ground truth, of the same kind.

    Returns:
        `[H, W, 3] uint8`.
    """
    prediction, truth = prediction / prediction.sum(), truth / truth.sum()
    level = np.clip((prediction - truth) / truth.max(), -1, 1)
    # As in the heat maps, the square root brings out the weaker differences.
    strength = np.sqrt(np.abs(level))[:, :, None]
    colour = np.where(level[:, :, None] > 0, np.array(TOO_MUCH_COLOUR), np.array(TOO_LITTLE_COLOUR))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    faded = (FADED_LEVEL + PHOTO_SHARE * (grey - 255))[:, :, None]
    return np.rint(faded * (1 - strength) + colour * strength).astype(np.uint8)


def draw_fixations(rgb: RGB, fixations: NDArray[np.bool_]) -> RGB:
    """Draw a white dot with a dark rim wherever someone looked.

    Args:
        rgb: `[H, W, 3] uint8`; it is not changed.
        fixations: fixation map `[h, w] bool`, of any size.

    Returns:
        `[H, W, 3] uint8`.
    """
    drawn = np.ascontiguousarray(rgb.copy())
    size = np.array(rgb.shape[:2])
    radius = max(1, round(DOT_RADIUS_SHARE * max(rgb.shape)))
    positions = (np.argwhere(fixations) + 0.5) / fixations.shape * size
    for y, x in positions.astype(int).tolist():
        cv2.circle(drawn, (x, y), radius + 1, (20, 20, 20), cv2.FILLED, cv2.LINE_AA)
    for y, x in positions.astype(int).tolist():
        cv2.circle(drawn, (x, y), radius, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
    return drawn
