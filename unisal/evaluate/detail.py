"""Scores of subsets of the gaze: every prediction is made once and scored against each of them."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from unisal.data.gaze.fixations import Fixations
from unisal.evaluate.frames import FrameToScore
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.metric_table import score_frame
from unisal.evaluate.options import SUBSETS_STREAM, ScoringOptions
from unisal.evaluate.people import RUN_ON_ONE
from unisal.evaluate.scores import Scores, SubsetKey
from unisal.evaluate.subsets import OBSERVER, Subsets, Tally
from unisal.predict.datasets import FrameKey

EACH_OBSERVER = SubsetKey(RUN_ON_ONE, "")
"""The mean over the observers of a frame, each scored by himself."""

SubsetRows = list[tuple[SubsetKey, list[float]]]


class SubsetScorer:
    """Scores the predictions of a data set against subsets of its gaze.

    Args:
        subsets: the subsets.
        options: how to score.
        each_observer: whether to score the mean over single observers as well, to be compared with
            how well the others predict each of them.
    """

    def __init__(self, subsets: Subsets, options: ScoringOptions, each_observer: bool) -> None:
        self.subsets, self.options, self.each_observer = subsets, options, each_observer
        self._gaze: Gaze = subsets.gaze
        self._n = len(subsets.dataset.lengths())
        self._tallies: dict[SubsetKey, Tally] = {}

    def rows(
        self,
        frame: FrameToScore,
        key: FrameKey,
        row: list[float],
        wanted: NDArray[np.bool_],
    ) -> SubsetRows:
        """Score a prediction against each subset with fixations on its frame.

        Args:
            frame: the prediction, and what the metrics need besides the ground truth.
            key: which frame it is.
            row: its scores against all gaze.
            wanted: `[metrics]`, which of them to compute.
        """
        found: SubsetRows = [(subset, row) for subset in self.subsets.of_frame(*key)]
        fixations = self._gaze.read(*key)
        if fixations is None:
            return found
        for subset, some in self.subsets.of_fixations(fixations):
            found.append((subset, self._scored(frame, key, subset, some, wanted)))
        if self.each_observer:
            people = self._people_rows(frame, key, fixations, wanted, found)
            if len(people) > 1:
                found.append((EACH_OBSERVER, mean_of_defined(people)))
        return found

    def add(self, index: int, found: SubsetRows, wanted: NDArray[np.bool_]) -> None:
        """Add the scores of a frame to those of its video or image."""
        for subset, row in found:
            if subset not in self._tallies:
                self._tallies[subset] = Tally(self._n, len(self.options.metrics))
            self._tallies[subset].add(index, row, wanted)

    def scores(self, titles: Sequence[str]) -> dict[SubsetKey, Scores]:
        """Return the scores of the subsets, in order, without those that nobody looked in."""
        return {
            key: self._tallies[key].scores(key.name or key.by, self.options.metrics, titles)
            for key in (*self.subsets.keys, EACH_OBSERVER)
            if key in self._tallies
        }

    def _scored(
        self,
        frame: FrameToScore,
        key: FrameKey,
        subset: SubsetKey,
        fixations: Fixations,
        wanted: NDArray[np.bool_],
    ) -> list[float]:
        """Score a prediction against some of the fixations."""
        part = frame._replace(
            target=self._gaze.density(key.video, fixations),
            fixations=self._gaze.fixation_map(key.video, fixations),
            rng=self.options.rng(SUBSETS_STREAM, *key, crc32("=".join(subset).encode())),
        )
        return score_frame(part, self.options.metrics, wanted)

    def _people_rows(
        self,
        frame: FrameToScore,
        key: FrameKey,
        fixations: Fixations,
        wanted: NDArray[np.bool_],
        found: SubsetRows,
    ) -> list[list[float]]:
        """Return the scores against each person, those that are known already if there are any."""
        if OBSERVER in self.subsets.by:
            return [row for subset, row in found if subset.by == OBSERVER]
        rows = []
        for person in np.unique(fixations.observer).tolist():
            subset = SubsetKey(OBSERVER, str(person))
            own = fixations.take(fixations.observer == person)
            rows.append(self._scored(frame, key, subset, own, wanted))
        return rows


def mean_of_defined(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each column over the rows where it is defined; NaN where it nowhere is."""
    values = np.array(rows, dtype=np.float64)
    counts = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(counts > 0, np.nansum(values, axis=0) / counts, np.nan)
    means: list[float] = mean.tolist()
    return means
