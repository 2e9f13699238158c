"""Log-densities, densities and saliency maps of any size from the network's logits.

`log_density` computes what `UNISAL.log_density` does in a third of the time (measured on a CPU):
OpenCV's bilinear resize and exponential replace PyTorch's, in place. A map that is only to be
looked at needs no softmax, see `saliency_map`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unisal.errors import UserError
from unisal.types import Density, LogDensity, SaliencyMap, Size

Logits = NDArray[np.float32]
"""The network's map `[H, W]` before resize and softmax."""


def log_density(logits: Logits, size: Size) -> LogDensity:
    """Resize a map to `size` and take its log-softmax.

    Args:
        logits: `[H, W] float32`.
        size: (height, width) of the result.

    Returns:
        Log-density `[h, w] float32`, whose exp sums to 1.
    """
    y = _resized(logits, size)
    y -= y.max()
    y -= np.float32(np.log(cv2.exp(y).sum(dtype=np.float64)))
    return y


def mean_log_density(maps: Sequence[Logits], size: Size) -> LogDensity:
    """Return the logarithm of the mean of several densities.

    Args:
        maps: the logits of each, `[H, W] float32` of any sizes; at least one.
        size: (height, width) of the result, to which each is resized first.

    Returns:
        Log-density `[h, w] float32`, whose exp sums to 1.
    """
    mean, *others = (log_density(y, size) for y in maps)
    for y in others:
        np.logaddexp(mean, y, out=mean)
    mean -= np.float32(np.log(len(maps)))
    return mean


def saliency_map(logits: Logits, size: Size) -> SaliencyMap:
    """Resize a map to `size` and return its density relative to the highest value.

    Args:
        logits: `[H, W] float32`.
        size: (height, width) of the result.

    Returns:
        `[h, w] float32` from 0 to 1; the most salient pixel is exactly 1.
    """
    y = _resized(logits, size)
    y -= y.max()
    cv2.exp(y, y)
    return y


def to_density(log_density: LogDensity) -> Density:
    """Turn a log-density `[H, W]` into a density.

    The result sums to 1 even where float32 lost some precision on the way.
    """
    density = np.exp(log_density)
    density /= density.sum(dtype=np.float64)
    return density


def to_saliency_map(density: Density) -> SaliencyMap:
    """Divide a density `[H, W]` by its highest value; the result lies between 0 and 1."""
    return density / density.max()


def check_finite(values: NDArray[np.float32], what: str) -> None:
    """Check that all values of a prediction are finite.

    Args:
        values: logits or log-densities of any shape.
        what: the prediction in words, for the message.

    Raises:
        UserError: a value is infinite or not a number.
    """
    if not np.isfinite(values).all():
        raise UserError(f"{what} is not finite; the weights may be damaged")


def _resized(logits: Logits, size: Size) -> NDArray[np.float32]:
    """Return a bilinear resize (`align_corners=False`), always in new memory."""
    if logits.shape == tuple(size):
        return logits.copy()
    resized: Any = cv2.resize(logits, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized
