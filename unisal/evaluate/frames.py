"""Which metrics are computed of one frame, and from what (spec 04, "Scoring")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.data import SaliencyDataset
from unisal.errors import UserError
from unisal.evaluate import metrics

AUC_STREAM, OTHERS_STREAM, SPLITS_STREAM = range(3)
"""What the random streams of a seed are for."""


class Frame(NamedTuple):
    """What the metrics of one frame are computed from, all at the size of the ground truth."""

    log_density: NDArray[np.float32]
    density: NDArray[np.float32]
    target: NDArray[np.float32]
    fixations: NDArray[np.bool_]
    others: NDArray[np.bool_]
    """The pixels that were fixated in other videos or images."""
    rng: np.random.Generator


METRICS: dict[str, Callable[[Frame], float]] = {
    "kld": lambda f: metrics.kld(f.log_density, f.target),
    "nss": lambda f: metrics.nss(f.density, f.fixations),
    "cc": lambda f: metrics.cc(f.density, f.target),
    "sim": lambda f: metrics.sim(f.density, f.target),
    "aucj": lambda f: metrics.auc_judd(f.density, f.fixations),
    "aucs": lambda f: metrics.auc_shuffled(f.density, f.fixations, f.others, rng=f.rng),
}
AUCS = ("aucj", "aucs")
"""The metrics of which a share of a video's frames is enough."""


@dataclass(frozen=True)
class ScoringOptions:
    """How to score.

    Args:
        metrics: which metrics, in the order of the columns.
        auc_portion: share of a video's frames, at random, that the AUCs are computed on.
        n_aucs_maps: number of other videos or images, one frame of each, whose fixations are the
            shuffled AUC's negatives.
        random_seed: of everything that is drawn.

    Raises:
        UserError: a value that is not allowed.
    """

    metrics: Sequence[str] = tuple(METRICS)
    auc_portion: float = 0.5
    n_aucs_maps: int = 10
    random_seed: int = 27

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            named = ", ".join(map(repr, unknown)) or "nothing"
            raise UserError(f"metrics names {named}; known are {', '.join(METRICS)}")
        if not 0 < self.auc_portion <= 1:
            raise UserError(
                f"auc_portion is {self.auc_portion}; it has to be above 0 and at most 1"
            )
        if self.n_aucs_maps < 1:
            raise UserError(f"n_aucs_maps is {self.n_aucs_maps}; it has to be at least 1")

    def rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.random_seed, *stream])


def wanted_metrics(
    index: int, n_frames: int, dynamic: bool, options: ScoringOptions
) -> NDArray[np.bool_]:
    """-> `[n_frames, metrics]`: which metrics of which frames of a video to compute."""
    wanted = np.ones((n_frames, len(options.metrics)), dtype=bool)
    if dynamic and n_frames:
        n = max(1, int(options.auc_portion * n_frames))
        chosen = options.rng(AUC_STREAM, index).permutation(n_frames)[:n]
        left_out = np.setdiff1d(np.arange(n_frames), chosen)
        is_auc = np.array([name in AUCS for name in options.metrics])
        wanted[np.ix_(left_out, np.flatnonzero(is_auc))] = False
    return wanted


def score_frame(
    frame: Frame, names: Sequence[str], wanted: Sequence[bool] | NDArray[np.bool_] | None = None
) -> list[float]:
    """-> the metrics of one frame in the order of `names`; NaN where not wanted or undefined."""
    wanted = [True] * len(names) if wanted is None else wanted
    return [
        METRICS[name](frame) if do else float("nan") for name, do in zip(names, wanted, strict=True)
    ]


class OtherFixations:
    """The shuffled AUC's negatives: where people looked in one random frame of each of
    `n_aucs_maps` random other videos or images.

    Args:
        dataset: the videos or images.
        options: says how many, and the seed.
    """

    def __init__(self, dataset: SaliencyDataset, options: ScoringOptions) -> None:
        self.n = options.n_aucs_maps
        self._positions: list[tuple[int, NDArray[np.float64]]] = []
        self._union: dict[tuple[int | None, tuple[int, ...]], NDArray[np.bool_]] = {}
        if "aucs" not in options.metrics:
            return
        rng = options.rng(OTHERS_STREAM)
        lengths = dataset.lengths()
        # One more than needed takes the place of a video that would meet itself.
        for index in rng.permutation(len(lengths))[: self.n + 1].tolist():
            number = int(rng.integers(1, lengths[index], endpoint=True))
            fixated = dataset.read_fixation_map(index, number)
            positions = (np.argwhere(fixated) + 0.5) / fixated.shape
            self._positions.append((index, positions))

    def of(self, index: int, size: tuple[int, ...]) -> NDArray[np.bool_]:
        """-> the union for one video, at (height, width) `size`."""
        chosen = [i for i, _ in self._positions[: self.n]]
        key = (index if index in chosen else None, size)
        if key not in self._union:
            rest = [xy for i, xy in self._positions if i != index][: self.n]
            union = np.zeros(size, dtype=bool)
            for positions in rest:
                y, x = (positions * size).astype(int).T
                union[y, x] = True
            self._union[key] = union
        return self._union[key]
