"""What a score can be read beside: chance, the centre bias, and how well people predict people."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from unisal.data import SaliencyDataset
from unisal.errors import UserError

CHANCE, CENTRE_BIAS, OBSERVERS = "chance", "centre bias", "half of the observers"
MAX_FRAMES = 2000
"""Frames of the training part that the centre bias is taken from, evenly spread."""
UNIFORM_SHARE = 0.01
"""Share of a uniform density that is mixed into blurred fixations: no pixel is impossible, so KLD
is finite. CC, NSS and the AUCs do not see it."""
FRAMES_FOR_BLUR = 5

LogDensity = NDArray[np.float32]
Predictions = Iterator[tuple[int, int, LogDensity]]
"""(video or image from 0, frame from 1, log-density `[h, w]`) of every frame, in order."""

log = logging.getLogger(__name__)


def fixed_predictions(
    dataset: SaliencyDataset, density_of_size: Callable[[tuple[int, int]], NDArray[np.float64]]
) -> Predictions:
    """Predict the same density for every frame.

    Args:
        dataset: what to predict.
        density_of_size: (height, width) -> the density at that size, above 0, sum 1.
    """
    known: dict[tuple[int, int], LogDensity] = {}
    for index, n_frames in enumerate(dataset.lengths()):
        size = dataset.target_size(index)
        if size not in known:
            known[size] = np.log(density_of_size(size)).astype(np.float32)
        for number in range(1, n_frames + 1):
            yield index, number, known[size]


def uniform_density(size: tuple[int, int]) -> NDArray[np.float64]:
    """Chance: every pixel alike."""
    return np.full(size, 1 / (size[0] * size[1]))


class CentreBias:
    """Where people look whatever the picture: the density of a training part's fixations.

    A Gaussian kernel density estimate over all fixated pixels, positions relative to the picture's
    sides, with Scott's bandwidth along each side.

    Args:
        train: the training part.
    """

    def __init__(self, train: SaliencyDataset) -> None:
        positions = []
        for index, number in evenly_spread(train.lengths(), MAX_FRAMES):
            fixated = train.read_fixation_map(index, number)
            positions.append((np.argwhere(fixated) + 0.5) / fixated.shape)
        self.positions = np.concatenate(positions)  # [n, 2], (y, x) from 0 to 1
        if not len(self.positions):
            raise UserError(
                f"the training part of {train.source} in {train.root()} has no fixations"
            )
        self.bandwidth = self.positions.std(axis=0) * len(self.positions) ** (-1 / 6)

    def density(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """-> the density at (height, width) `size`."""
        counts = np.zeros(size)
        y, x = (self.positions * size).astype(int).T
        np.add.at(counts, (y, x), 1)
        return blurred_density(counts, self.bandwidth * size)


def blurred_density(
    counts: NDArray[np.float64], sigma: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fixations per pixel `[h, w]` -> a density: a Gaussian of `sigma` pixels over each of them,
    and a small uniform share."""
    blurred = gaussian_filter(counts, sigma, mode="constant")
    total = blurred.sum()
    uniform = uniform_density((counts.shape[0], counts.shape[1]))
    if total == 0:
        return uniform
    return (1 - UNIFORM_SHARE) * blurred / total + UNIFORM_SHARE * uniform


def evenly_spread(lengths: list[int], n: int) -> list[tuple[int, int]]:
    """-> at most `n` of all frames as (video from 0, frame from 1), evenly spread over them."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.unique(np.linspace(0, total - 1, min(n, total)).astype(int))
    videos = np.searchsorted(ends, chosen, side="right")
    return [
        (int(v), int(f - ends[v] + lengths[v] + 1)) for v, f in zip(videos, chosen, strict=True)
    ]


def blur_of_maps(dataset: SaliencyDataset) -> float:
    """-> the standard deviation in pixels of the Gaussian that made a data set's saliency maps of
    its fixations: the one that comes closest to them."""
    found = []
    for index, number in evenly_spread(dataset.lengths(), FRAMES_FOR_BLUR):
        saliency_map = dataset.read_density(index, number).ravel()
        fixated = dataset.read_fixation_map(index, number)
        if not fixated.any():
            continue

        def misfit(
            sigma: float, fixated: NDArray[np.bool_] = fixated, known: LogDensity = saliency_map
        ) -> float:
            blurred = gaussian_filter(fixated.astype(np.float32), sigma, mode="constant")
            return 1 - np.corrcoef(blurred.ravel(), known)[0, 1]

        limits = (0.5, max(fixated.shape) / 8)
        found.append(minimize_scalar(misfit, bounds=limits, method="bounded").x)
    if not found:
        raise UserError(f"{dataset.source} has no fixations in {dataset.root()}")
    return float(np.median(found))


class ObserverHalves:
    """How well one half of the observers predicts where the other half looked.

    Args:
        dataset: whose data tells observers apart, see `SaliencyDataset.read_observers`.
        seed: of the random halves.
    """

    def __init__(self, dataset: SaliencyDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.sigma = blur_of_maps(dataset)

    def pairs(
        self, index: int
    ) -> Iterator[tuple[LogDensity, NDArray[np.float32], NDArray[np.bool_]]]:
        """-> (log-density of one half, density of the other, fixation map of the other) of an
        image, and the same with the halves exchanged; nothing if fewer than two looked at it."""
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


def _counts(observers: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.float64]:
    counts = np.zeros(size)
    for xy in observers:
        x, y = xy.astype(int).T
        np.add.at(counts, (y, x), 1)
    return counts
