"""The data that the metrics of one frame are computed from."""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.data import SaliencyDataset
from unisal.evaluate.options import OTHERS_STREAM, ScoringOptions
from unisal.types import Density, LogDensity, Size

FixationMap = NDArray[np.bool_]
"""The fixated pixels `[h, w]`."""

MAX_KEPT = 16
"""The number of maps that are kept, so that pictures of many sizes do not fill the memory."""


class FrameToScore(NamedTuple):
    """A prediction with its ground truth `[h, w]`, and what some metrics need in addition.

    What none of the chosen metrics needs may be left out.
    """

    log_density: LogDensity
    """The prediction."""
    density: Density
    target: Density
    """The ground truth's saliency map, as a density."""
    fixations: FixationMap
    rng: np.random.Generator
    """The random stream of the shuffled AUC's draws."""
    others: FixationMap = np.empty((0, 0), np.bool_)
    """The pixels that were fixated in other videos or images."""
    centre_bias: LogDensity = np.empty((0, 0), np.float32)
    """The centre bias of the source's training part."""


class OtherFixations:
    """The shuffled AUC's negatives.

    They are the places that people looked at in one random frame of each of `n_aucs_maps` random
    other videos or images.

    Args:
        dataset: the videos or images.
        options: provide `n_aucs_maps` and the seed.
    """

    def __init__(self, dataset: SaliencyDataset, options: ScoringOptions) -> None:
        self.n = options.n_aucs_maps
        self._positions: list[tuple[int, NDArray[np.float64]]] = []
        self._lock = Lock()
        self._union: dict[tuple[int | None, Size], FixationMap] = {}
        rng = options.rng(OTHERS_STREAM)
        lengths = dataset.lengths()
        # One more than needed, to replace a video that would be its own negative.
        for index in rng.permutation(len(lengths))[: self.n + 1].tolist():
            number = int(rng.integers(1, lengths[index], endpoint=True))
            fixated = dataset.read_fixation_map(index, number)
            positions = (np.argwhere(fixated) + 0.5) / fixated.shape
            self._positions.append((index, positions))

    def of(self, index: int, size: Size) -> FixationMap:
        """Return the union for one video or image.

        Args:
            index: index of the video or image, which gives no negatives of its own.
            size: (height, width) of the result.
        """
        chosen = [i for i, _ in self._positions[: self.n]]
        key = (index if index in chosen else None, size)
        with self._lock:
            if key not in self._union:
                rest = [xy for i, xy in self._positions if i != index][: self.n]
                union = np.zeros(size, dtype=bool)
                for positions in rest:
                    y, x = (positions * size).astype(int).T
                    union[y, x] = True
                self._union[key] = union
                if len(self._union) > MAX_KEPT:
                    del self._union[next(iter(self._union))]
            return self._union[key]
