"""Reference baselines: chance, the centre bias, and how well people predict people."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from unisal.data import SaliencyDataset
from unisal.data.gaze.fixations import Fixations
from unisal.data.gaze.maps import pixels
from unisal.data.spread import evenly_spread
from unisal.errors import UserError
from unisal.evaluate.frames import FixationMap
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.gaze import blur_of_maps as blur_of_maps
from unisal.progress import SILENT, Progress
from unisal.threads import FreshLock
from unisal.types import Density, LogDensity, Size

CHANCE, CENTRE_BIAS, OBSERVERS = "chance", "centre bias", "half of the observers"
MAX_CENTRE_BIAS_FRAMES = 2000
"""The number of frames of the training part, evenly spread, that give the centre bias."""
MAX_KNOWN = 16
"""The number of densities that are kept, so that pictures of many sizes do not fill the memory."""
UNIFORM_SHARE = 0.01
"""Share of a uniform density that is mixed into blurred fixations: no pixel is impossible, so KLD
is finite. CC, NSS and the AUCs are not affected."""


class Baseline:
    """Predicts without a network; unless a subclass says otherwise, the same for every frame."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, LogDensity] = OrderedDict()
        self._lock = FreshLock()

    def density(self, size: Size) -> NDArray[np.float64]:
        """Return the density `[h, w]` at (height, width) `size`, above 0 everywhere."""
        raise NotImplementedError

    def log_density(self, size: Size) -> LogDensity:
        """Return the logarithm of the density, which is computed once for each size."""
        return self._once(size, lambda: self.density(size))

    def predict(self, dataset: SaliencyDataset, index: int, number: int = 1) -> LogDensity:
        """Return the log-density `[h, w]` for a frame, at the size of its ground truth.

        Args:
            dataset: the scored part.
            index: index of the video or image, from 0.
            number: number of the frame, from 1.
        """
        return self.log_density(dataset.target_size(index))

    def _once(self, key: Hashable, make: Callable[[], NDArray[np.float64]]) -> LogDensity:
        """Return the logarithm of a density, made if it is not among the last ones."""
        with self._lock:
            if key not in self._known:
                self._known[key] = np.log(make()).astype(np.float32)
                if len(self._known) > MAX_KNOWN:
                    self._known.popitem(last=False)
            return self._known[key]


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
        leave_out: whether the fixations on a video or image count for all others but not for
            itself: where the scored part is among what is trained on.

    Raises:
        UserError: it has no fixations, or they cannot be read.
    """

    def __init__(
        self, train: SaliencyDataset, progress: Progress = SILENT, leave_out: bool = False
    ) -> None:
        super().__init__()
        self.leave_out = leave_out
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
        self._titles = {train.title(index): index for index, _ in chosen}
        self._owners = np.repeat([index for index, _ in chosen], [len(p) for p in positions])
        self.bandwidth = _bandwidth(self.positions)

    def density(self, size: Size) -> NDArray[np.float64]:
        return _spread(self.positions, self.bandwidth, size)

    def predict(self, dataset: SaliencyDataset, index: int, number: int = 1) -> LogDensity:
        size, title = dataset.target_size(index), dataset.title(index)
        if not self.leave_out or title not in self._titles:
            return self.log_density(size)
        return self._once((size, title), lambda: self._density_without(title, size))

    def _density_without(self, title: str, size: Size) -> NDArray[np.float64]:
        """Return the density of the fixations on all other videos or images."""
        others = self.positions[self._owners != self._titles[title]]
        return _spread(others, _bandwidth(others), size) if len(others) else uniform_density(size)


def _bandwidth(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Scott's bandwidth of positions `[n, 2]` along each side."""
    bandwidth: NDArray[np.float64] = positions.std(axis=0) * len(positions) ** (-1 / 6)
    return bandwidth


def _spread(
    positions: NDArray[np.float64], bandwidth: NDArray[np.float64], size: Size
) -> NDArray[np.float64]:
    """Return the density `[*size]` of relative positions (y, x)."""
    counts = np.zeros(size)
    y, x = (positions * size).astype(int).T
    np.add.at(counts, (y, x), 1)
    return blurred_density(counts, bandwidth * size)


def uniform_density(size: Size) -> NDArray[np.float64]:
    """Return the density `[h, w]` that is the same at every pixel."""
    return np.full(size, 1 / (size[0] * size[1]))


def blurred_density(
    counts: NDArray[np.float64], sigma: float | tuple[float, float] | NDArray[np.float64]
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


class ObserverHalves:
    """Predicts where one half of the observers looked from the other half.

    Args:
        dataset: a data set that distinguishes observers, see `unisal.evaluate.gaze.Gaze.read`.
        seed: seed of the random halves, which are the same on all frames of a film.

    Raises:
        UserError: there are no fixations.
    """

    def __init__(self, dataset: SaliencyDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.gaze = Gaze(dataset)
        self.gaze.blur(0)

    def pairs(
        self, index: int, number: int = 1
    ) -> Iterator[tuple[LogDensity, Density, FixationMap]]:
        """Yield both directions of a frame; nothing if fewer than two people looked at it.

        Yields:
            The log-density of one half, and the density and the fixation map of the other,
            `[h, w]` each; then the same with the halves exchanged.
        """
        people, fixations = self.gaze.people(index), self.gaze.read(index, number)
        if fixations is None or len(people) < 2:
            return
        order = np.random.default_rng([self.seed, index]).permutation(len(people))
        size, sigma = self.dataset.target_size(index), self.gaze.blur(index)
        chosen = [[people[i] for i in part] for part in np.array_split(order, 2)]
        halves = [_counts(fixations.choose(observers=half), size) for half in chosen]
        if not all(half.any() for half in halves):
            return
        for one, other in pairwise([*halves, halves[0]]):
            target = gaussian_filter(other, sigma, mode="constant")
            yield (
                np.log(blurred_density(one, sigma)).astype(np.float32),
                (target / target.sum()).astype(np.float32),
                other > 0,
            )


def _counts(fixations: Fixations, size: Size) -> NDArray[np.float64]:
    """Return what the fixations on each pixel weigh together."""
    counts = np.zeros(size)
    y, x = pixels(fixations, size, size).T
    np.add.at(counts, (y, x), fixations.weight)
    return counts
