"""Who looked where and when: the fixations of a data set, and maps of some of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from unisal.data import SaliencyDataset
from unisal.data.gaze.fixations import Fixations
from unisal.data.gaze.maps import density_map, fixation_map
from unisal.data.spread import evenly_spread
from unisal.errors import UserError
from unisal.evaluate.frames import FixationMap
from unisal.threads import FreshLock
from unisal.types import Density

FRAMES_FOR_BLUR = 5
"""The number of frames whose maps are compared with their fixations to find the blur."""


class Gaze:
    """Reads the fixations of a data set and makes maps of any of them.

    Args:
        dataset: a data set, with or without a table of gaze. Without one, the fixations are those
            of the observers of each image, where the data tells them apart.
    """

    def __init__(self, dataset: SaliencyDataset) -> None:
        self.dataset = dataset
        self._blur: float | None = None
        self._lock = FreshLock()

    def read(self, index: int, number: int | None = None) -> Fixations | None:
        """Return the fixations on a picture or film.

        Args:
            index: index of the picture or film.
            number: of a film: the number of the frame, from 1; None for all frames.

        Returns:
            The fixations in pixels of the ground truth; None if only fixated pixels are known.
        """
        found = self.dataset.read_gaze(index, number)
        if found is not None or self.dataset.is_video:
            return found
        observers = self.dataset.read_observers(index)
        return None if observers is None else _of_observers(index, observers)

    def people(self, index: int) -> list[int]:
        """Return the numbers of those who looked at a picture or film, in order."""
        found = self.read(index)
        return [] if found is None else np.unique(found.observer).tolist()

    def tells_people_apart(self) -> bool:
        """Return whether some picture or film was looked at by two people or more."""
        return any(len(self.people(index)) > 1 for index in range(len(self.dataset.lengths())))

    def blur(self, index: int) -> tuple[float, float]:
        """Return the standard deviation (vertical, horizontal) of the maps' blur, in pixels.

        Raises:
            UserError: it is neither known nor can it be found, since there are no fixations.
        """
        known = self.dataset.blur(index)
        if known is not None:
            return known
        with self._lock:
            if self._blur is None:
                self._blur = blur_of_maps(self.dataset)
            return self._blur, self._blur

    def density(self, index: int, fixations: Fixations) -> Density:
        """Return the density `[h, w]` of some fixations; all zero if there are none."""
        size = self.dataset.target_size(index)
        return density_map(fixations, size, size, self.blur(index))

    def fixation_map(self, index: int, fixations: Fixations) -> FixationMap:
        """Return the pixels `[h, w]` of some fixations."""
        size = self.dataset.target_size(index)
        return fixation_map(fixations, size, size)


def blur_of_maps(dataset: SaliencyDataset) -> float:
    """Find the blur that turned a data set's fixations into its saliency maps.

    Returns:
        The standard deviation in pixels of the Gaussian that reproduces them best.

    Raises:
        UserError: there are no fixations.
    """
    found = []
    for index, number in evenly_spread(dataset.lengths(), FRAMES_FOR_BLUR):
        saliency_map = dataset.read_density(index, number).ravel()
        fixated = dataset.read_fixation_map(index, number)
        if not fixated.any():
            continue

        def misfit(
            sigma: float, fixated: FixationMap = fixated, known: Density = saliency_map
        ) -> float:
            blurred = gaussian_filter(fixated.astype(np.float32), sigma, mode="constant")
            return 1 - np.corrcoef(blurred.ravel(), known)[0, 1]

        limits = (0.5, max(fixated.shape) / 8)
        found.append(minimize_scalar(misfit, bounds=limits, method="bounded").x)
    if not found:
        raise UserError(f"{dataset.source} has no fixations in {dataset.root()}")
    return float(np.median(found))


def _of_observers(index: int, observers: list[NDArray[np.float64]]) -> Fixations:
    """Return the fixations of an image's observers, in the order in which each of them looked."""
    lengths = [len(xy) for xy in observers]
    n = sum(lengths)
    xy = np.concatenate([np.empty((0, 2)), *observers])
    unknown, zeros = np.full(n, np.nan), np.zeros(n, np.int64)
    return Fixations(
        stimulus=np.full(n, index),
        observer=np.repeat(np.arange(len(observers)), lengths),
        x=xy[:, 0],
        y=xy[:, 1],
        start_ms=unknown,
        duration_ms=unknown,
        first_frame=zeros,
        last_frame=zeros,
        number=np.concatenate([np.empty(0, np.int64), *(np.arange(1, k + 1) for k in lengths)]),
        weight=np.ones(n),
        groups={},
    )
