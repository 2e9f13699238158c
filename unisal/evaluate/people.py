"""How well people predict people: what a run can be expected to reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from unisal.data import SaliencyDataset
from unisal.evaluate.baselines import UNIFORM_SHARE, uniform_density
from unisal.evaluate.frames import FixationMap
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.scores import Scores
from unisal.types import Density, LogDensity

ONE_LEFT_OUT = "each observer, by the others"
RUN_ON_ONE = "each observer, by this run"
WHOLE_GROUP = "another whole group"
CORRECTED = "cc"
"""The metric that the Spearman-Brown formula, which is one for correlations, is applied to."""


class Trial(NamedTuple):
    """A prediction of some people's gaze on a frame by other people's."""

    log_density: LogDensity
    target: Density
    fixations: FixationMap
    observer: int = -1
    """The number of the one who is predicted; -1 for several."""


class OneLeftOut:
    """Predicts each observer from all others.

    Args:
        dataset: a data set that tells observers apart.
    """

    def __init__(self, dataset: SaliencyDataset) -> None:
        self._gaze = Gaze(dataset)

    def trials(self, index: int, number: int = 1) -> Iterator[Trial]:
        """Yield a trial for each observer of a frame; none if fewer than two people looked at it.

        The prediction is the others' density with a small uniform share, so that no pixel is
        impossible.
        """
        fixations = self._gaze.read(index, number)
        present = [] if fixations is None else np.unique(fixations.observer).tolist()
        if fixations is None or len(present) < 2:
            return
        for observer in present:
            own = fixations.observer == observer
            others = self._gaze.density(index, fixations.take(~own))
            size = others.shape[0], others.shape[1]
            mixed = (1 - UNIFORM_SHARE) * others + UNIFORM_SHARE * uniform_density(size)
            one = fixations.take(own)
            yield Trial(
                np.log(mixed).astype(np.float32),
                self._gaze.density(index, one),
                self._gaze.fixation_map(index, one),
                observer,
            )


def for_whole_group(halves: Scores) -> Scores:
    """Estimate from halves how well a group as large as the whole one predicts another.

    The correlation of each picture or film becomes 2r / (1 + r) (C. Spearman, "Correlation
    calculated from faulty data", and W. Brown, "Some experimental results in the correlation of
    mental abilities", both British Journal of Psychology 3, 1910). One of 0 or less, which has
    nothing to be enlarged, stays. No such formula is known for the other metrics, which are left
    undefined.

    Args:
        halves: how well halves predict each other.
    """
    keep = np.array([name == CORRECTED for name in halves.metrics])
    corrected = np.where(halves.rows > 0, 2 * halves.rows / (1 + halves.rows), halves.rows)
    return replace(
        halves,
        name=WHOLE_GROUP,
        rows=np.where(keep, corrected, np.nan),
        n_defined=halves.n_defined * keep,
        n_wanted=halves.n_wanted * keep,
    )
