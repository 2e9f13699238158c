"""Smoothing predictions over the frames of a video (docs/behaviour.md, "Commands and files")."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from unisal.errors import UserError
from unisal.types import LogDensity

K = TypeVar("K")


def smoothing_window(smooth_method: str | None) -> int:
    """Read the name of a smoothing method.

    Args:
        smooth_method: "medK" for the median over K frames, K odd; None for no smoothing.

    Returns:
        K, or 1 for no smoothing.

    Raises:
        UserError: it is something else, or K is even.
    """
    if smooth_method is None:
        return 1
    match = re.fullmatch(r"med([0-9]+)", str(smooth_method))
    window = int(match[1]) if match else 0
    if window % 2 == 0:
        raise UserError(
            f"smooth_method is {smooth_method!r}; it has to be 'medK', the median over K frames, "
            "with an odd K, for example 'med5'"
        )
    return window


def median_over_time(
    log_densities: Iterable[tuple[K, LogDensity]], window: int
) -> Iterator[tuple[K, LogDensity]]:
    """Replace each frame by the median of its neighbours, rescaled to a density.

    Args:
        log_densities: keys with log-densities `[H, W] float32`, in the order of the frames. At most
            `window` of them are held at a time.
        window: odd number of frames, the frame itself in the middle. At both ends of the video
            the window holds only the frames that exist.

    Yields:
        Each key with the log-density `[H, W] float32` of its frame, in the same order.
    """
    if window == 1:
        yield from log_densities
        return
    half = window // 2
    held: deque[tuple[K, LogDensity]] = deque(maxlen=window)
    n_frames = 0
    for frame in log_densities:
        held.append(frame)
        n_frames += 1
        if n_frames > half:
            yield held[-1 - half][0], median_density([y for _, y in held])
    for n_after in range(min(half, n_frames) - 1, -1, -1):  # the last frames, which have fewer
        while len(held) > min(n_frames, n_after + 1 + half):
            held.popleft()
        yield held[-1 - n_after][0], median_density([y for _, y in held])


def median_density(log_densities: Sequence[LogDensity]) -> LogDensity:
    """Return the logarithm of the densities' median at each pixel, rescaled to sum to 1.

    Where the number of densities is even, the mean of the two middle ones is taken.
    """
    ordered = sort_pixelwise(log_densities)
    middle = len(ordered) // 2
    median = ordered[middle]
    if len(ordered) % 2 == 0:  # the median of the probabilities, not of their logarithms
        median = np.logaddexp(ordered[middle - 1], median) - np.float32(np.log(2))
    total = np.exp(median, dtype=np.float64).sum()
    return median - np.float32(np.log(total))


def sort_pixelwise(maps: Sequence[LogDensity]) -> list[LogDensity]:
    """Sort the values of each pixel in ascending order over the maps.

    Odd-even transposition: neighbours that are in the wrong order are exchanged, in as many rounds
    as there are maps. On whole maps this is 20 times as fast as NumPy's median over the axis for
    3 maps, and 3 times as fast for 11 (measured).
    """
    ordered = list(maps)
    for start in range(len(ordered)):
        for i in range(start % 2, len(ordered) - 1, 2):
            one, other = ordered[i], ordered[i + 1]
            ordered[i], ordered[i + 1] = np.minimum(one, other), np.maximum(one, other)
    return ordered
