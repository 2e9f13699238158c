"""Frames that stand for all frames of some videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def evenly_spread(lengths: Sequence[int], n: int) -> list[tuple[int, int]]:
    """Choose at most `n` frames, evenly spread over all frames of some videos.

    Args:
        lengths: the number of frames of each video.
        n: the number of frames to choose.

    Returns:
        (video from 0, frame from 1) of each, in order.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.unique(np.linspace(0, total - 1, min(n, total)).astype(int))
    videos = np.searchsorted(ends, chosen, side="right")
    return [
        (int(v), int(f - ends[v] + lengths[v] + 1)) for v, f in zip(videos, chosen, strict=True)
    ]
