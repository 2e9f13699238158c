"""From the network's map to what is saved and shown, at the picture's own size.

The same as `UNISAL.log_density` in a third of the time (measured on a CPU): OpenCV's bilinear
resize and exponential instead of PyTorch's, in place. What is only looked at needs no softmax.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def log_density(logits: Array, size: tuple[int, int]) -> Array:
    """The map before softmax `[H, W]` -> log-probabilities `[h, w]` of `size`; exp sums to 1."""
    y = _resized(logits, size)
    y -= y.max()
    y -= np.float32(np.log(cv2.exp(y).sum(dtype=np.float64)))
    return y


def relative_density(logits: Array, size: tuple[int, int]) -> Array:
    """The map before softmax `[H, W]` -> the density `[h, w]` of `size` over its highest value."""
    y = _resized(logits, size)
    y -= y.max()
    cv2.exp(y, y)
    return y


def _resized(logits: Array, size: tuple[int, int]) -> Array:
    """-> a bilinear resize, `align_corners=False`; always new memory."""
    if logits.shape == tuple(size):
        return logits.copy()
    resized: Any = cv2.resize(logits, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized
