"""Options of scoring. Imports nothing heavy, so that a command's help appears at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unisal.checks import check_count, check_number
from unisal.errors import UserError

if TYPE_CHECKING:
    import numpy as np

AUC_STREAM, OTHERS_STREAM, SPLITS_STREAM = range(3)
"""The random streams of a seed, by purpose: the frames that get AUCs, the videos or images that
give the shuffled AUC's negatives, and its draws from them."""


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

    Raises:
        UserError: a value is not allowed.
    """

    metrics: Sequence[str] = ("kld", "nss", "cc", "sim", "aucj", "aucs")
    auc_portion: float = 0.5
    n_aucs_maps: int = 10
    random_seed: int = 27

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
