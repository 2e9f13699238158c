"""Whether predicted probabilities are as high as they claim, and the temperature that would help.

A predicted density is calibrated if the smallest region that holds 50 % of it holds 50 % of the
fixations, and so for every other share. Its temperature T makes it sharper (below 1) or flatter
(above): the density to the power of 1 / T, divided by its sum (Guo et al., ICML 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray

from unisal.data import SaliencyDataset
from unisal.evaluate.frames import FixationMap
from unisal.evaluate.scores import INTERVAL, N_RESAMPLES
from unisal.evaluate.scoring import read_ground_truth
from unisal.forks import compute_threads
from unisal.inference.densities import to_density
from unisal.predict.datasets import FrameKey, KeyedPredictions
from unisal.progress import SILENT, Progress
from unisal.threads import in_threads
from unisal.types import Density, LogDensity

LEVELS = tuple(percent / 100 for percent in range(10, 100, 10))
"""The shares of the predicted density whose regions are looked at."""
LIMITS = (0.25, 4.0)
"""Temperatures are looked for between these."""
N_NODES = 21
"""At so many temperatures each frame's KLD is computed; between them it is interpolated. It is odd,
so that 1 is one of them."""
TEMPERATURES = np.exp(
    log(LIMITS[1]) * np.cos(np.pi * (np.arange(N_NODES) + 0.5) / N_NODES)[::-1]
).astype(np.float64)
"""The Chebyshev nodes of the logarithm of the temperature, `[N_NODES]`, ascending."""

Values = NDArray[np.float64]


class Fit(NamedTuple):
    """The temperature with the lowest mean KLD."""

    temperature: float
    kld_before: float
    """The mean KLD at the temperature 1."""
    kld_after: float
    """The mean KLD at the fitted one."""
    at_limit: bool
    """Whether it is one of `LIMITS`, so that a better one may lie beyond."""


@dataclass(frozen=True)
class Calibration:
    """What was measured on a data set.

    Attributes:
        n_fixations: `[n]`, the number of fixated pixels of each image or video.
        n_inside: `[n, LEVELS]`, how many of them lie in the region of each level.
        kld: `[n, TEMPERATURES]`, the KLD at each temperature, of a video the mean over its frames.
    """

    n_fixations: Values
    n_inside: Values
    kld: Values

    @property
    def shares(self) -> Values:
        """The share of all fixations that lies in the region of each level, `[LEVELS]`."""
        shares: Values = self.n_inside.sum(axis=0) / self.n_fixations.sum()
        return shares

    def intervals(self, seed: int = 0) -> Values:
        """Return bootstrap 95 % intervals of `shares`, `[2, LEVELS]`.

        Whole images or videos are drawn with replacement.

        Args:
            seed: seed of the draws.
        """
        n = len(self.n_fixations)
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
        shares = (drawn @ self.n_inside) / (drawn @ self.n_fixations)[:, None]
        return np.percentile(shares, INTERVAL, axis=0)


def shares_inside(
    density: Density, fixations: FixationMap, levels: Sequence[float] = LEVELS
) -> Values:
    """Return the shares of the fixated pixels that lie in the smallest regions of a density.

    Args:
        density: `[H, W]`, sums to 1.
        fixations: the fixation map `[H, W]`, at least one pixel of it fixated.
        levels: the share of the density that each region holds, from 0 to 1.

    Returns:
        `[levels]`. Pixels of the same density enter a region together; of those with which it would
        hold too much, the part that it takes counts.
    """
    ascending = np.sort(density, axis=None)
    mass = np.concatenate([[0.0], np.cumsum(ascending[::-1], dtype=np.float64)])
    mass /= mass[-1]
    values = density[fixations]
    above = mass[density.size - np.searchsorted(ascending, values, side="right")]
    through = mass[density.size - np.searchsorted(ascending, values, side="left")]
    own = np.maximum(through - above, np.finfo(np.float64).tiny)
    inside = np.clip((np.asarray(levels)[:, None] - above) / own, 0, 1)
    shares: Values = inside.mean(axis=1)
    return shares


def kld_at(
    log_density: LogDensity, target: Density, temperatures: Sequence[float] | Values = TEMPERATURES
) -> Values:
    """Return the KLD of a prediction at several temperatures.

    Args:
        log_density: the prediction `[H, W]`, its exp sums to 1.
        target: the ground truth `[H, W]`, sums to 1.
        temperatures: those wanted, above 0.

    Returns:
        `[temperatures]`, in nats.
    """
    seen = target > 0
    t = target[seen].astype(np.float64)
    entropy, cross = (t * np.log(t)).sum(), (t * log_density[seen]).sum()
    highest = float(log_density.max())
    below = log_density - np.float32(highest)
    found = []
    for power in 1 / np.asarray(temperatures, np.float64):
        total = np.exp(below * np.float32(power)).sum(dtype=np.float64)
        found.append(entropy - power * cross + t.sum() * (log(total) + power * highest))
    return np.array(found)


def measure_calibration(
    dataset: SaliencyDataset, predictions: KeyedPredictions, progress: Progress = SILENT
) -> Calibration:
    """Compare the predictions of every frame with where people looked.

    Args:
        dataset: the ground truth.
        predictions: for every frame, in order, at the size of the ground truth.
        progress: counts the frames.

    Returns:
        What was found, for the images or videos that people looked at.

    Raises:
        UserError: the ground truth is faulty.
    """
    lengths = dataset.lengths()
    rows: list[list[tuple[float, Values, Values]]] = [[] for _ in lengths]

    def measure(
        prediction: tuple[FrameKey, LogDensity],
    ) -> tuple[FrameKey, tuple[float, Values, Values] | None]:
        key, log_density = prediction
        if not dataset.is_looked_at(*key):
            return key, None
        target, fixations = read_ground_truth(dataset, key)
        n = int(fixations.sum())
        if n == 0:
            return key, None
        inside = n * shares_inside(to_density(log_density), fixations)
        return key, (n, inside, kld_at(log_density, target))

    workers = compute_threads()
    unit = "frame" if dataset.is_video else "image"
    with progress.bar(f"calibrate on {dataset.source}", unit, sum(lengths)) as bar:
        for key, row in in_threads(measure, predictions, workers, ahead=2 * workers):
            if row is not None:
                rows[key.video].append(row)
            bar.update()
    looked_at = [row for row in rows if row]
    return Calibration(
        np.array([sum(n for n, _, _ in row) for row in looked_at], np.float64),
        np.array([np.sum([inside for _, inside, _ in row], axis=0) for row in looked_at]),
        np.array([np.mean([kld for _, _, kld in row], axis=0) for row in looked_at]),
    )


def fit_temperature(kld: Values) -> Fit:
    """Return the temperature with the lowest mean KLD.

    Args:
        kld: `[n, TEMPERATURES]`, see `Calibration`; of several data sets one below the other.
    """
    means = kld.mean(axis=0)
    domain = [log(limit) for limit in LIMITS]
    curve = Chebyshev.fit(np.log(TEMPERATURES), means, N_NODES - 1, domain=domain)
    turns = np.asarray(curve.deriv().roots(), np.complex128)
    inner = turns.real[np.abs(turns.imag) < 1e-9]
    places = np.array([*domain, *inner[(inner > domain[0]) & (inner < domain[1])]])
    best = int(np.argmin(curve(places)))
    return Fit(
        temperature=float(np.exp(places[best])),
        kld_before=float(means[N_NODES // 2]),
        kld_after=float(curve(places[best])),
        at_limit=best < len(domain),
    )
