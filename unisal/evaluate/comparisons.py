"""Whether two runs, or the gaze of two groups, differ in their scores: bootstrap tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.evaluate.options import TESTS_STREAM
from unisal.evaluate.scores import INTERVAL, Scores

RUN = "run"
"""What is compared if it is two runs."""
N_TEST_RESAMPLES = 10_000
CHUNK = 500
"""The number of resamples that are drawn at a time."""
MIN_STIMULI = 8
"""With fewer stimuli on either side nothing is tested: their resamples vary too little, and p would
come out far too small."""
MAX_GROUPS = 6
"""With more groups than these not every two of them are compared."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The difference of two means of a metric, first minus second.

    Attributes:
        by: what is compared: "run", or the column of the groups.
        first, second: the names of both.
        metric: the metric.
        first_mean, second_mean: means over the stimuli.
        difference: their difference.
        low, high: its 95 % interval; NaN if there are too few stimuli.
        p: the probability, if there were no difference, of one as large in either direction; NaN
            likewise.
        n_both: on how many stimuli both have a value.
        n_first, n_second: on how many stimuli only one of them has.
    """

    by: str
    first: str
    second: str
    metric: str
    first_mean: float
    second_mean: float
    difference: float
    low: float
    high: float
    p: float
    n_both: int
    n_first: int
    n_second: int

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it: NaN is null."""
        return {k: None if v != v else v for k, v in asdict(self).items()}


def compare(by: str, first: Scores, second: Scores, seed: int) -> list[Comparison]:
    """Compare two scores metric by metric.

    Whole stimuli are drawn with replacement. On those that both have a value for, the same ones are
    drawn for both, so the test is paired; those of only one of them are drawn by themselves, so
    the test is unpaired if no stimulus is common to both. The interval holds the middle 95 % of the
    resampled differences, and p is twice the share of those that lie on the smaller side of 0.

    Args:
        by: what is compared.
        first: scores of the stimuli of a data set.
        second: others of the same stimuli, in the same order.
        seed: seed of the draws.
    """
    found = []
    for i, metric in enumerate(first.metrics):
        a, b = first.rows[:, i], second.rows[:, i]
        rng = np.random.default_rng([seed, TESTS_STREAM, i])
        found.append(Comparison(by, first.name, second.name, metric, *difference(a, b, rng)))
    return found


def compare_groups(by: str, scores: Sequence[Scores], seed: int) -> Iterator[Comparison]:
    """Compare every two of a few groups, see `compare`."""
    if len(scores) <= MAX_GROUPS:
        for first, second in combinations(scores, 2):
            yield from compare(by, first, second, seed)


def difference(
    a: Values, b: Values, rng: np.random.Generator, n: int = N_TEST_RESAMPLES
) -> tuple[float, float, float, float, float, float, int, int, int]:
    """Test the difference of two means, see `compare`.

    Args:
        a: a value for each stimulus, NaN where there is none.
        b: the same for the other side.
        rng: draws the resamples.
        n: the number of resamples.

    Returns:
        Both means, the difference, the ends of its interval, p, and on how many stimuli both, only
        the first and only the second have a value.
    """
    has_a, has_b = ~np.isnan(a), ~np.isnan(b)
    strata = has_a & has_b, has_a & ~has_b, has_b & ~has_a
    counts = tuple(int(stratum.sum()) for stratum in strata)
    means = tuple(
        float(v[has].mean()) if has.any() else np.nan for v, has in ((a, has_a), (b, has_b))
    )
    found = means[0] - means[1]
    if min(has_a.sum(), has_b.sum()) < MIN_STIMULI:
        return *means, found, np.nan, np.nan, np.nan, *counts  # type: ignore[return-value]
    drawn = np.concatenate(
        [_resampled(a, b, strata, rng, min(CHUNK, n - i)) for i in range(0, n, CHUNK)]
    )
    low, high = np.percentile(drawn, INTERVAL).tolist()
    on_smaller_side = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (1 + int(on_smaller_side)) / (1 + n))
    return *means, found, low, high, p, *counts  # type: ignore[return-value]


def _resampled(
    a: Values, b: Values, strata: Sequence[NDArray[np.bool_]], rng: np.random.Generator, n: int
) -> Values:
    """Return the differences of `n` resamples, each stratum of stimuli drawn by itself."""
    sums, counts = [np.zeros(n), np.zeros(n)], [0, 0]
    for stratum, sides in zip(strata, ((0, 1), (0,), (1,)), strict=True):
        size = int(stratum.sum())
        if not size:
            continue
        weights = rng.multinomial(size, np.full(size, 1 / size), size=n).astype(np.float64)
        for side in sides:
            sums[side] += weights @ (a, b)[side][stratum]
            counts[side] += size
    return sums[0] / counts[0] - sums[1] / counts[1]
