"""The metrics that a run can be scored with: one record each, and the only place to add one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from unisal.evaluate import metrics
from unisal.evaluate.frames import FrameToScore
from unisal.evaluate.options import AUC_STREAM, ScoringOptions


class Need(Enum):
    """What a metric needs besides a frame's prediction and ground truth; it is prepared once."""

    OTHER_FIXATIONS = "the fixations in other videos or images"
    CENTRE_BIAS = "the centre bias of the training part"


@dataclass(frozen=True)
class Metric:
    """Everything that the program knows about a metric.

    Attributes:
        compute: returns the value for a frame; NaN where it is undefined.
        name: its usual abbreviation, for the report.
        higher_is_better: its direction.
        chance: its value for a uniform prediction; None if that depends on the data.
        text: what it measures, for the report.
        needs: what `FrameToScore` has to hold for it besides the prediction and ground truth.
        on_all_frames: whether it is computed on each frame of a video; otherwise only on the share
            `ScoringOptions.auc_portion`.
    """

    compute: Callable[[FrameToScore], float]
    name: str
    higher_is_better: bool
    chance: float | None
    text: str
    needs: frozenset[Need] = frozenset()
    on_all_frames: bool = True

    @property
    def arrow(self) -> str:
        """The direction in which values get better."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def direction(self) -> str:
        """The same in words."""
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def chance_text(self) -> str:
        """The value of chance in words."""
        return "not a fixed value" if self.chance is None else f"{self.chance:g}"


METRICS: dict[str, Metric] = {
    "kld": Metric(
        lambda f: metrics.kld(f.log_density, f.target),
        "KLD",
        higher_is_better=False,
        chance=None,
        text="Information that the prediction loses about the ground truth's density, in nats "
        "(Kullback-Leibler divergence); 0 is perfect. What was missed costs most.",
    ),
    "nss": Metric(
        lambda f: metrics.nss(f.density, f.fixations),
        "NSS",
        higher_is_better=True,
        chance=0,
        text="How far the predicted density at fixated pixels lies above its mean, in its standard "
        "deviations.",
    ),
    "cc": Metric(
        lambda f: metrics.cc(f.density, f.target),
        "CC",
        higher_is_better=True,
        chance=0,
        text="Correlation of the predicted density with the ground truth's over all pixels; 1 is "
        "perfect.",
    ),
    "sim": Metric(
        lambda f: metrics.sim(f.density, f.target),
        "SIM",
        higher_is_better=True,
        chance=None,
        text="The share of the two densities that overlaps; 1 is perfect.",
    ),
    "aucj": Metric(
        lambda f: metrics.auc_judd(f.density, f.fixations),
        "AUC-J",
        higher_is_better=True,
        chance=0.5,
        text="How well the predicted density separates fixated pixels from all others (AUC-Judd); "
        "1 is perfect. A guess at the centre does well.",
        on_all_frames=False,
    ),
    "aucs": Metric(
        lambda f: metrics.auc_shuffled(f.density, f.fixations, f.others, rng=f.rng),
        "sAUC",
        higher_is_better=True,
        chance=0.5,
        text="The same with pixels that were fixated in other pictures in place of all others "
        "(shuffled AUC). A guess at the centre gains nothing.",
        needs=frozenset({Need.OTHER_FIXATIONS}),
        on_all_frames=False,
    ),
    "ig": Metric(
        lambda f: metrics.information_gain(f.log_density, f.centre_bias, f.fixations),
        "IG",
        higher_is_better=True,
        chance=None,
        text="What the predicted density says about the fixations beyond the centre bias of the "
        "training part, in bits per fixation (information gain); the centre bias itself has 0.",
        needs=frozenset({Need.CENTRE_BIAS}),
    ),
}
"""The metrics by the names under which they are requested and saved."""


def find_needs(names: Sequence[str]) -> dict[Need, list[str]]:
    """Return what the metrics in `names` need, with the names of those that need it."""
    return {
        need: needing
        for need in Need
        if (needing := [name for name in names if need in METRICS[name].needs])
    }


def choose_metrics(
    index: int, n_frames: int, is_video: bool, options: ScoringOptions
) -> NDArray[np.bool_]:
    """Choose which metrics of which frames of a video to compute.

    Args:
        index: index of the video or image.
        n_frames: how many frames it has.
        is_video: whether it is a video; for an image everything is computed.
        options: the metrics, and on which share of the frames some of them are computed.

    Returns:
        `[n_frames, metrics] bool`.
    """
    wanted = np.ones((n_frames, len(options.metrics)), dtype=bool)
    if is_video and n_frames:
        n = max(1, int(options.auc_portion * n_frames))
        chosen = options.rng(AUC_STREAM, index).permutation(n_frames)[:n]
        left_out = np.setdiff1d(np.arange(n_frames), chosen)
        on_share = np.array([not METRICS[name].on_all_frames for name in options.metrics])
        wanted[np.ix_(left_out, np.flatnonzero(on_share))] = False
    return wanted


def score_frame(
    frame: FrameToScore,
    names: Sequence[str],
    wanted: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> list[float]:
    """Compute metrics of one frame.

    Args:
        frame: holds what the metrics need.
        names: names of the metrics.
        wanted: which of them to compute; None for all.

    Returns:
        The values in the order of `names`; NaN where not wanted or undefined.
    """
    wanted = [True] * len(names) if wanted is None else wanted
    return [
        METRICS[name].compute(frame) if is_wanted else float("nan")
        for name, is_wanted in zip(names, wanted, strict=True)
    ]
