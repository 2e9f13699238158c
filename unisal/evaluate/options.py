"""Options of scoring. Imports nothing heavy, so that a command's help appears at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unisal.checks import check_count, check_number
from unisal.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from unisal.data import SaliencyDataset

IG = "ig"
"""The information gain among the metrics."""
AUC_STREAM, OTHERS_STREAM, SPLITS_STREAM, SUBSETS_STREAM, TESTS_STREAM = range(5)
"""The random streams of a seed, by purpose: the frames that get AUCs, the videos or images that
give the shuffled AUC's negatives, its draws from them, those for subsets of the gaze, and the
resamples of tests."""


@dataclass(frozen=True)
class SubsetOptions:
    """By what to divide the gaze, to score its subsets by themselves.

    Args:
        by: observer, fixation, time, or names of columns of groups; None for all that the data has
            if it is scored in detail, see `SaliencyDataset.scored_in_detail`, else nothing.
        n_fixations: how many fixations of a person on a picture are scored by their number; those
            after them together.
        time_window: length of the windows of time in seconds; None for a half (of films 1), or
            longer ones where those would be too many.

    Raises:
        UserError: a value is not allowed.
    """

    by: Sequence[str] | None = None
    n_fixations: int = 10
    time_window: float | None = None

    def __post_init__(self) -> None:
        check_count(self.n_fixations, "n_fixations")
        if self.time_window is not None:
            check_number(self.time_window, "time_window", above=True)


@dataclass(frozen=True)
class ScoringOptions:
    """How to score.

    Args:
        metrics: the metrics in the order of the columns: keys of
            `unisal.evaluate.metric_table.METRICS`.
        auc_portion: share of a video's frames, chosen at random, that the AUCs are computed on.
        n_aucs_maps: number of other videos or images, with one frame of each, whose fixations are
            the shuffled AUC's negatives.
        random_seed: seed of all random draws.
        subsets: by what to divide the gaze, to score its subsets by themselves; None for nothing.
        with_ig: whether data that is scored in detail has its information gain scored as well.
        against: name of another run, to be compared with.
        against_domain: its network domain; None for the same as that of the scored run.

    Raises:
        UserError: a value is not allowed.
    """

    metrics: Sequence[str] = ("kld", "nss", "cc", "sim", "aucj", "aucs")
    auc_portion: float = 0.5
    n_aucs_maps: int = 10
    random_seed: int = 27
    subsets: SubsetOptions | None = None
    with_ig: bool = False
    against: str | None = None
    against_domain: str | None = None

    def __post_init__(self) -> None:
        from unisal.evaluate.metric_table import METRICS  # here, since it imports NumPy

        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            named = ", ".join(map(repr, unknown)) or "nothing"
            raise UserError(f"metrics names {named}; known are {', '.join(METRICS)}")
        check_number(self.auc_portion, "auc_portion", largest=1, above=True)
        check_count(self.n_aucs_maps, "n_aucs_maps")
        check_count(self.random_seed, "random_seed", smallest=0)

    def rng(self, *stream: int) -> np.random.Generator:
        """Return a random stream of the seed, by one of the constants above and further indices."""
        import numpy as np

        return np.random.default_rng([self.random_seed, *stream])

    def adapted_to(self, dataset: SaliencyDataset) -> ScoringOptions:
        """Return the options for one data set: with the information gain where that is wanted."""
        if self.with_ig and dataset.scored_in_detail and IG not in self.metrics:
            return replace(self, metrics=(*self.metrics, IG))
        return self
