"""Reference baselines: chance, the centre bias, and how well people predict people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from unisal.data import SaliencyDataset
from unisal.data.samplers import evenly_spread
from unisal.errors import UserError
from unisal.evaluate.frames import FixationMap
from unisal.progress import SILENT, Progress
from unisal.types import Density, LogDensity, Size

CHANCE, CENTRE_BIAS, OBSERVERS = "chance", "centre bias", "half of the observers"
MAX_CENTRE_BIAS_FRAMES = 2000
"""The number of frames of the training part, evenly spread, that give the centre bias."""
UNIFORM_SHARE = 0.01
"""Share of a uniform density that is mixed into blurred fixations: no pixel is impossible, so KLD
is finite. CC, NSS and the AUCs are not affected."""
FRAMES_FOR_BLUR = 5


class Baseline:
    """Predicts the same density for every frame."""

    def __init__(self) -> None:
        self._known: dict[Size, LogDensity] = {}
        self._lock = Lock()

    def density(self, size: Size) -> NDArray[np.float64]:
        """Return the density `[h, w]` at (height, width) `size`, above 0 everywhere."""
        raise NotImplementedError

    def log_density(self, size: Size) -> LogDensity:
        """Return the logarithm of the density, which is computed once for each size."""
        with self._lock:
            if size not in self._known:
                self._known[size] = np.log(self.density(size)).astype(np.float32)
            return self._known[size]


class Chance(Baseline):
    """Takes every pixel to be equally likely."""

    def density(self, size: Size) -> NDArray[np.float64]:
        return uniform_density(size)


class CentreBias(Baseline):
    """Predicts where people look whatever the picture: the density of a training part's fixations.

    A Gaussian kernel density estimate over all fixated pixels, positions relative to the picture's
    sides, with Scott's bandwidth along each side.

    Args:
        train: the training part.
        progress: counts the frames whose fixations are read.

    Raises:
        UserError: it has no fixations, or they cannot be read.
    """

    def __init__(self, train: SaliencyDataset, progress: Progress = SILENT) -> None:
        super().__init__()
        positions = []
        chosen = evenly_spread(train.lengths(), MAX_CENTRE_BIAS_FRAMES)
        unit = "frame" if train.is_video else "image"
        with progress.bar(f"centre bias of {train.source}", unit, len(chosen)) as bar:
            for index, number in chosen:
                fixated = train.read_fixation_map(index, number)
                positions.append((np.argwhere(fixated) + 0.5) / fixated.shape)
                bar.update()
        self.positions = np.concatenate(positions)  # [n, 2], (y, x) from 0 to 1
        if not len(self.positions):
            raise UserError(
                f"the training part of {train.source} in {train.root()} has no fixations"
            )
        self.bandwidth = self.positions.std(axis=0) * len(self.positions) ** (-1 / 6)

    def density(self, size: Size) -> NDArray[np.float64]:
        counts = np.zeros(size)
        y, x = (self.positions * size).astype(int).T
        np.add.at(counts, (y, x), 1)
        return blurred_density(counts, self.bandwidth * size)


def uniform_density(size: Size) -> NDArray[np.float64]:
    """Return the density `[h, w]` that is the same at every pixel."""
    return np.full(size, 1 / (size[0] * size[1]))


def blurred_density(
    counts: NDArray[np.float64], sigma: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Blur fixations into a density.

    Args:
        counts: fixations per pixel `[h, w]`.
        sigma: standard deviation in pixels of the Gaussian at each of them: one number, or
            (vertical, horizontal).

    Returns:
        The density `[h, w]`, with a small uniform share; uniform if there is no fixation.
    """
    blurred = gaussian_filter(counts, sigma, mode="constant")
    total = blurred.sum()
    uniform = uniform_density((counts.shape[0], counts.shape[1]))
    if total == 0:
        return uniform
    return (1 - UNIFORM_SHARE) * blurred / total + UNIFORM_SHARE * uniform


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


class ObserverHalves:
    """Predicts where one half of the observers looked from the other half.

    Args:
        dataset: a data set that distinguishes observers, see `SaliencyDataset.read_observers`.
        seed: seed of the random halves.

    Raises:
        UserError: there are no fixations.
    """

    def __init__(self, dataset: SaliencyDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.sigma = blur_of_maps(dataset)

    def pairs(self, index: int) -> Iterator[tuple[LogDensity, Density, FixationMap]]:
        """Yield both directions of an image; nothing if fewer than two people looked at it.

        Yields:
            The log-density of one half, and the density and the fixation map of the other,
            `[h, w]` each; then the same with the halves exchanged.
        """
        observers = self.dataset.read_observers(index) or []
        observers = [o for o in observers if len(o)]
        if len(observers) < 2:
            return
        order = np.random.default_rng([self.seed, index]).permutation(len(observers))
        size = self.dataset.target_size(index)
        halves = [_counts([observers[i] for i in part], size) for part in np.array_split(order, 2)]
        for one, other in pairwise([*halves, halves[0]]):
            target = gaussian_filter(other, self.sigma, mode="constant")
            yield (
                np.log(blurred_density(one, self.sigma)).astype(np.float32),
                (target / target.sum()).astype(np.float32),
                other > 0,
            )


def _counts(observers: list[NDArray[np.float64]], size: Size) -> NDArray[np.float64]:
    """Count how often each pixel was fixated."""
    counts = np.zeros(size)
    for xy in observers:
        x, y = xy.astype(int).T
        np.add.at(counts, (y, x), 1)
    return counts
