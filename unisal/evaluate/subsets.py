"""Subsets of gaze that are scored by themselves: of an observer, a time, a group of people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unisal.data import SaliencyDataset
from unisal.data.gaze.fixations import Fixations
from unisal.errors import UserError
from unisal.evaluate.gaze import Gaze
from unisal.evaluate.options import SubsetOptions
from unisal.evaluate.scores import Scores, SubsetKey

OBSERVER, FIXATION, TIME = "observer", "fixation", "time"
"""What gaze can be divided by, besides the columns of groups."""
ALL = "all"
"""Stands for everything that the gaze can be divided by."""
WINDOWS_S = (0.5, 1, 2, 5, 10, 30, 60, 300)
"""Lengths of the windows of time to choose from, in seconds."""
FILM_WINDOWS_S = WINDOWS_S[1:]
MAX_WINDOWS = 60
"""The number of windows up to which a length is chosen."""


class Subsets:
    """Divides the gaze of a data set. Of films `time` divides the frames, not the fixations.

    Args:
        dataset: what is scored.
        gaze: its fixations.
        options: by what to divide it.

    Attributes:
        by: what it is divided by.
        keys: all subsets, in order.

    Raises:
        UserError: the data cannot be divided by one of them; lists those that it can be.
    """

    def __init__(self, dataset: SaliencyDataset, gaze: Gaze, options: SubsetOptions) -> None:
        self.dataset, self.gaze = dataset, gaze
        self._numbers, self._starts = _extent(dataset, gaze)
        possible = self._possible()
        wanted = possible if options.by in (None, (ALL,)) else options.by
        self.by = tuple(wanted or ())
        if strange := [name for name in self.by if name not in possible]:
            raise UserError(
                f"by names {', '.join(map(repr, strange))}; the gaze of {dataset.source} can be "
                f"divided by {', '.join(possible) or 'nothing'}"
            )
        self.n_fixations = options.n_fixations
        self.window = options.time_window or self._chosen_window()
        self._names = {by: self._names_by(by) for by in self.by}
        self.keys = [SubsetKey(by, name) for by in self.by for name in self._names[by]]

    def of_fixations(self, fixations: Fixations) -> Iterator[tuple[SubsetKey, Fixations]]:
        """Yield the subsets that some of the fixations on a frame belong to, with those."""
        for by in self.by:
            if by == TIME and self.dataset.is_video:
                continue  # it divides the frames
            numbers = self._numbers_by(by, fixations)
            for number in np.unique(numbers[numbers >= 0]).tolist():
                yield SubsetKey(by, self._names[by][number]), fixations.take(numbers == number)

    def of_frame(self, index: int, number: int) -> list[SubsetKey]:
        """Return the subsets that a whole frame belongs to: of films the window of time."""
        if not self.dataset.is_video or TIME not in self.by:
            return []
        window = int(self.dataset.frame_time(index, number) / self.window + 1e-6)
        return [SubsetKey(TIME, self._names[TIME][window])]

    def _possible(self) -> list[str]:
        """Return what the data can be divided by: what has two values at least."""
        possible = [OBSERVER] if len(self.dataset.observers) > 1 else []
        if not self.dataset.is_video and self._numbers > 1:
            possible.append(FIXATION)
        if self._starts > 0:
            possible.append(TIME)
        groups = self.dataset.groups
        return possible + [name for name in groups if len(groups[name]) > 1]

    def _chosen_window(self) -> float:
        """Return the shortest length of a window with which there are not too many."""
        lengths = FILM_WINDOWS_S if self.dataset.is_video else WINDOWS_S
        fitting = [length for length in lengths if self._starts / length < MAX_WINDOWS]
        return fitting[0] if fitting else self._starts / (MAX_WINDOWS - 1)

    def _names_by(self, by: str) -> list[str]:
        """Return the names of the subsets by something, in order."""
        if by == OBSERVER:
            return list(self.dataset.observers)
        if by == FIXATION:
            single = [str(n) for n in range(1, min(self.n_fixations, self._numbers) + 1)]
            return [*single, f"{self.n_fixations + 1}+"][: self._numbers]
        if by == TIME:
            edges = [k * self.window for k in range(int(self._starts / self.window + 1e-6) + 2)]
            return [f"{a:g}-{b:g} s" for a, b in pairwise(edges)]
        return [value for value in self.dataset.groups[by] if value]

    def _numbers_by(self, by: str, fixations: Fixations) -> NDArray[np.int_]:
        """Return the place among the names of the subset of each fixation; -1 for none."""
        if by == OBSERVER:
            return fixations.observer
        if by == FIXATION:
            return np.minimum(fixations.number - 1, self.n_fixations)
        if by == TIME:
            start = np.where(np.isfinite(fixations.start_ms), fixations.start_ms, -np.inf) / 1000
            return np.where(start >= 0, start / self.window + 1e-6, -1).astype(int)
        place = {name: i for i, name in enumerate(self._names[by])}
        return np.array([place.get(v, -1) for v in fixations.groups[by].tolist()], dtype=int)


def _extent(dataset: SaliencyDataset, gaze: Gaze) -> tuple[int, float]:
    """Return the highest number of a fixation, and the latest time in seconds of something.

    That is the start of a fixation or, of films, a frame; -1 where no times are known.
    """
    numbers, latest = 0, -1.0
    for index, n_frames in enumerate(dataset.lengths()):
        if dataset.is_video:
            latest = max(latest, dataset.frame_time(index, n_frames))
            continue
        found = gaze.read(index)
        if found is None:
            return 0, -1.0
        numbers = max(numbers, int(found.number.max(initial=0)))
        known = found.start_ms[np.isfinite(found.start_ms)]
        latest = max(latest, float(known.max(initial=-1000)) / 1000)
    return numbers, latest


class Tally:
    """Adds up the scores of frames by their videos; its size does not depend on the frames.

    Args:
        n: the number of videos or images.
        n_metrics: the number of metrics.
    """

    def __init__(self, n: int, n_metrics: int) -> None:
        self.sums = np.zeros((n, n_metrics))
        self.n_defined = np.zeros((n, n_metrics), dtype=int)
        self.n_wanted = np.zeros((n, n_metrics), dtype=int)
        self.n_frames = np.zeros(n, dtype=int)

    def add(self, index: int, row: Sequence[float], wanted: NDArray[np.bool_]) -> None:
        """Add the scores of a frame.

        Args:
            index: index of the video or image.
            row: a value per metric, NaN where undefined.
            wanted: `[metrics]`, which of them were to be computed.
        """
        values = np.array(row, dtype=np.float64)
        self.sums[index] += np.nan_to_num(values, nan=0.0)
        self.n_defined[index] += ~np.isnan(values)
        self.n_wanted[index] += wanted
        self.n_frames[index] += 1

    def scores(self, name: str, metrics: Sequence[str], titles: Sequence[str]) -> Scores:
        """Return the scores, NaN for videos and images without a value."""
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = np.where(self.n_defined > 0, self.sums / self.n_defined, np.nan)
        counts = self.n_defined, self.n_wanted, self.n_frames
        return Scores(name, tuple(metrics), tuple(titles), rows, *counts)
