"""Fixations to maps, at any size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.data.gaze.fixations import Fixations
from unisal.types import Size

TRUNCATE = 4.0
"""How many standard deviations from its middle a Gaussian ends."""
MAX_PRODUCTS = 1024
"""Up to how many fixated pixels a map is the product of two matrices; of more it is filtered."""
CACHE_BYTES = 128 * 2**20
"""The memory for maps, per data set and process."""


def pixels(fixations: Fixations, stimulus_size: Size, size: Size) -> NDArray[np.int64]:
    """Return the fixated pixels of a map.

    At the size of the stimulus the pixel is floor(x + 0.5), since 0 is the middle of the first one.

    Args:
        fixations: on the stimulus.
        stimulus_size: (height, width) of the stimulus.
        size: (height, width) of the map.

    Returns:
        `[n, 2]` (y, x).
    """
    scale = np.array(size) / stimulus_size
    yx = np.floor((np.stack([fixations.y, fixations.x], axis=1) + 0.5) * scale).astype(np.int64)
    return np.clip(yx, 0, np.array(size) - 1)


def fixation_map(fixations: Fixations, stimulus_size: Size, size: Size) -> NDArray[np.bool_]:
    """Return which pixels were fixated, `[*size] bool`; see `pixels`."""
    fixated = np.zeros(size, dtype=bool)
    y, x = pixels(fixations, stimulus_size, size).T
    fixated[y, x] = True
    return fixated


def density_map(
    fixations: Fixations, stimulus_size: Size, size: Size, blur: tuple[float, float]
) -> NDArray[np.float32]:
    """Return the density of fixations: a Gaussian around the pixel of each, cut off at the border.

    Args:
        fixations: on the stimulus, with their weights.
        stimulus_size: (height, width) of the stimulus.
        size: (height, width) of the map.
        blur: standard deviation (vertical, horizontal) in pixels of the stimulus.

    Returns:
        `[*size] float32` with sum 1; all zero without fixations.
    """
    sigma = np.array(blur) * size / stimulus_size
    places, index = np.unique(pixels(fixations, stimulus_size, size), axis=0, return_inverse=True)
    weights = np.bincount(index.ravel(), fixations.weight, len(places))
    if len(places) > MAX_PRODUCTS:
        from scipy.ndimage import gaussian_filter  # here, since it is slow to load

        counts = np.zeros(size, np.float32)
        counts[places[:, 0], places[:, 1]] = weights
        density = gaussian_filter(counts, sigma, mode="constant", truncate=TRUNCATE)
    else:
        rows = _gaussians(places[:, 0], size[0], sigma[0]) * weights[:, None].astype(np.float32)
        density = rows.T @ _gaussians(places[:, 1], size[1], sigma[1])
    total = density.sum(dtype=np.float64)
    result: NDArray[np.float32] = (density / total).astype(np.float32) if total > 0 else density
    return result


def _gaussians(centres: NDArray[np.int64], length: int, sigma: float) -> NDArray[np.float32]:
    """Return a Gaussian around each centre, `[n, length]`: the same as SciPy's filter makes."""
    radius = int(TRUNCATE * sigma + 0.5)
    distance = np.abs(np.arange(length)[None, :] - centres[:, None])
    steps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2) if sigma > 0 else (steps == 0).astype(float)
    # A step more, of value 0, stands for everything beyond the end.
    values = np.append(kernel[radius:] / kernel.sum(), 0).astype(np.float32)
    return values[np.minimum(distance, radius + 1)]


class MapCache:
    """Remembers maps, up to an amount of memory; those that were not used for longest go first.

    It may be used by several threads. A copy in another process begins empty.

    Args:
        max_bytes: the amount of memory.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._forget()

    def _forget(self) -> None:
        self._maps: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = RLock()
        self._used = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.max_bytes = state["max_bytes"]
        self._forget()

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the map of a key, made if it is not known. It cannot be written to."""
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
                return self._maps[key]
        made = make()
        made.setflags(write=False)
        with self._lock:
            if key not in self._maps:
                self._maps[key] = made
                self._used += made.nbytes
            while self._used > self.max_bytes and len(self._maps) > 1:
                self._used -= self._maps.popitem(last=False)[1].nbytes
        return made
