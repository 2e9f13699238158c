"""Compare the metrics with loops written from their definitions.

`python -m benchmarks.metrics` prints for each metric how long a call of the plain loop takes (over
pixels, thresholds or draws, in `tests/plain_metrics.py`) and how long a call of ours, how many
times faster ours is, and the largest difference between their values on several maps. Times are
processor times on one core, so other programs do not count. "aucs_expected" replaces
the draws by their expectation; it is compared with the loop that draws, so its difference is that
loop's chance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import Comparison, compare, plain_module
from unisal.evaluate import metrics

N_MAPS = 4
"""The number of maps whose scores are compared; the first one is timed."""


class Case(NamedTuple):
    """A prediction and what it is scored with, `[H, W]` each."""

    log_density: NDArray[np.floating]
    density: NDArray[np.floating]
    baseline: NDArray[np.floating]
    target: NDArray[np.floating]
    fixations: NDArray[np.bool_]
    others: NDArray[np.bool_]


Metric = Callable[[Case], float]


def pairs() -> dict[str, tuple[Metric, Metric]]:
    """Return the plain loop and our function of each metric."""
    plain = plain_module("plain_metrics")
    plain_rng, rng, expected_rng = (np.random.RandomState(0) for _ in range(3))

    def plain_aucs(c: Case, rng: np.random.RandomState) -> float:
        value: float = plain.auc_shuffled(c.density, c.fixations, c.others, 100, 0.1, rng)
        return value

    return {
        "kld": (
            lambda c: plain.kld(c.log_density, c.target),
            lambda c: metrics.kld(c.log_density, c.target),
        ),
        "nss": (
            lambda c: plain.nss(c.density, c.fixations),
            lambda c: metrics.nss(c.density, c.fixations),
        ),
        "cc": (lambda c: plain.cc(c.density, c.target), lambda c: metrics.cc(c.density, c.target)),
        "sim": (
            lambda c: plain.sim(c.density, c.target),
            lambda c: metrics.sim(c.density, c.target),
        ),
        "information_gain": (
            lambda c: plain.information_gain(c.log_density, c.baseline, c.fixations),
            lambda c: metrics.information_gain(c.log_density, c.baseline, c.fixations),
        ),
        "aucj": (
            lambda c: plain.auc_judd(c.density, c.fixations),
            lambda c: metrics.auc_judd(c.density, c.fixations),
        ),
        "aucj_exact": (
            lambda c: plain.auc_judd(c.density, c.fixations, exact=True),
            lambda c: metrics.auc_judd(c.density, c.fixations, exact=True),
        ),
        "aucs": (
            lambda c: plain_aucs(c, plain_rng),
            lambda c: metrics.auc_shuffled(c.density, c.fixations, c.others, rng=rng),
        ),
        "aucs_expected": (
            lambda c: plain_aucs(c, expected_rng),
            lambda c: metrics.auc_shuffled(c.density, c.fixations, c.others, n_splits=None),
        ),
    }


def make_case(
    size: tuple[int, int], n_fixations: int, n_others: int, dtype: str, seed: int
) -> Case:
    """Draw blobs over a centre bias, and fixations from mixtures of the two."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5) / np.array(size).reshape(2, 1, 1)
    bias = np.exp(-((y - 0.5) ** 2 + (x - 0.5) ** 2) / 0.1)

    def blobs() -> NDArray[np.float64]:
        places = rng.uniform(0.1, 0.9, (5, 2)), rng.uniform(0.02, 0.1, 5), rng.uniform(0.2, 1, 5)
        spots = (
            w * np.exp(-((y - a) ** 2 + (x - b) ** 2) / s**2)
            for (a, b), s, w in zip(*places, strict=True)
        )
        mixed: NDArray[np.float64] = sum(spots) + 0.05 * bias + 1e-4
        return mixed / mixed.sum()

    def drawn(weights: NDArray[np.float64], n: int) -> NDArray[np.bool_]:
        fixated = np.zeros(weights.size, dtype=bool)
        fixated[rng.choice(weights.size, n, replace=False, p=weights.ravel())] = True
        return fixated.reshape(weights.shape)

    predicted, seen = blobs(), blobs()
    bias /= bias.sum()
    log_density = np.log(predicted).astype(dtype)
    return Case(
        log_density,
        np.exp(log_density),
        np.log(bias).astype(dtype),
        seen.astype(dtype),
        drawn((predicted + seen + bias) / 3, n_fixations),
        drawn((seen + 4 * bias) / 5, n_others),
    )


def measure(
    size: tuple[int, int] = (360, 640),
    n_fixations: int = 100,
    n_others: int = 1000,
    dtype: str = "float32",
    rounds: int = 9,
    at_least: float = 0.05,
    names: Sequence[str] = (),
) -> Iterator[tuple[str, Comparison, float]]:
    """Yield the times and the largest difference of each metric, or of those in `names`."""
    cases = [make_case(size, n_fixations, n_others, dtype, seed) for seed in range(N_MAPS)]
    for name, (plain, ours) in pairs().items():
        if names and name not in names:
            continue
        difference = max(abs(plain(case) - ours(case)) for case in cases)
        times = compare(
            partial(plain, cases[0]),
            partial(ours, cases[0]),
            rounds,
            at_least,
            time.process_time,
        )
        yield name, times, difference


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--fixations", type=int, default=100)
    parser.add_argument("--others", type=int, default=1000, help="fixations on other pictures")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--metrics", nargs="*", default=[], choices=list(pairs()), metavar="NAME")
    options = parser.parse_args(arguments)
    size = options.height, options.width
    print(f"{options.width} x {options.height} {options.dtype}, {options.fixations} fixations,")
    print(f"{options.others} on other pictures; NumPy {np.__version__}; medians of", end=" ")
    print(f"{options.rounds} rounds\n\n{'':17}{'plain':>10}{'ours':>11}{'ratio':>9}  difference")
    rows = measure(
        size,
        options.fixations,
        options.others,
        options.dtype,
        options.rounds,
        names=options.metrics,
    )
    for name, times, difference in rows:
        plain, ours = 1000 * times.plain, 1000 * times.ours
        print(f"{name:17}{plain:7.1f} ms{ours:8.2f} ms{times.ratio:8.1f}x  {difference:.1e}")


if __name__ == "__main__":
    main()
