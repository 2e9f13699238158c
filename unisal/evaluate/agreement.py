"""How well one network's predictions agree with another's: in densities, and in scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from unisal.data import SaliencyDataset
from unisal.evaluate import metrics
from unisal.evaluate.frames import FrameToScore
from unisal.evaluate.metric_table import METRICS
from unisal.evaluate.scoring import read_ground_truth
from unisal.inference.densities import to_density
from unisal.inference.engine import Engine
from unisal.predict.datasets import predict_dataset
from unisal.progress import SILENT, Progress

SCORES = ("kld", "nss", "cc", "sim", "aucj")
"""The metrics that need nothing but the frame's own ground truth."""
NO_DRAWS = np.random.default_rng(0)
"""None of them draws anything."""


class Compared(NamedTuple):
    """What two networks make of a data set."""

    name: str
    n_frames: int
    cc: list[float]
    """The CC of the two densities of each frame."""
    exact: dict[str, float]
    """The mean score of the first network, by metric."""
    other: dict[str, float]
    """That of the second one."""

    @property
    def differences(self) -> dict[str, float]:
        """How far the second network's mean scores lie above those of the first one."""
        return {name: self.other[name] - value for name, value in self.exact.items()}


def compare_engines(
    dataset: SaliencyDataset,
    exact: Engine,
    other: Engine,
    domain: str,
    progress: Progress = SILENT,
    chosen: Sequence[int] | None = None,
) -> Compared:
    """Predict a data set with two networks and compare.

    Args:
        dataset: what to predict, with its ground truth.
        exact: the first network.
        other: the second one.
        domain: the network domain to use.
        progress: shows how far it has come.
        chosen: the videos or images, by number from 0; None for all of them.

    Returns:
        The CC of each frame, and the mean scores, of a video that of its frames first.

    Raises:
        UserError: something cannot be read, or a prediction is not finite.
    """
    lengths = dataset.lengths()
    chosen = range(len(lengths)) if chosen is None else chosen
    agreement: list[float] = []
    scores: dict[int, list[list[list[float]]]] = {}
    pairs = zip(
        predict_dataset(exact, dataset, domain, chosen=chosen),
        predict_dataset(other, dataset, domain, chosen=chosen),
        strict=True,
    )
    n_frames = sum(lengths[index] for index in chosen)
    with progress.bar(f"{dataset.source}, compared", "frame", n_frames) as bar:
        for (key, first), (_, second) in pairs:
            densities = to_density(first), to_density(second)
            agreement.append(metrics.cc(densities[1], densities[0]))
            if dataset.is_looked_at(*key):
                target, fixations = read_ground_truth(dataset, key)
                found = []
                for prediction in zip((first, second), densities, strict=True):
                    frame = FrameToScore(*prediction, target, fixations, NO_DRAWS)
                    found.append([METRICS[name].compute(frame) for name in SCORES])
                scores.setdefault(key.video, []).append(found)
            bar.update()
    means = np.nanmean([np.nanmean(of_video, axis=0) for of_video in scores.values()], axis=0)
    tables = [dict(zip(SCORES, map(float, row), strict=True)) for row in means]
    return Compared(dataset.source, len(agreement), agreement, *tables)


def summary(compared: Iterable[Compared]) -> dict[str, Any]:
    """Return what was compared as values for JSON, by data set, and the CC over all frames."""
    compared = list(compared)
    all_cc = [value for one in compared for value in one.cc]
    return {
        "mean_cc": float(np.mean(all_cc)),
        "worst_cc": float(np.min(all_cc)),
        "sources": {
            one.name: {
                "n_frames": one.n_frames,
                "mean_cc": float(np.mean(one.cc)),
                "worst_cc": float(np.min(one.cc)),
                "last_cc": one.cc[-1],
                "scores_fp32": one.exact,
                "differences": one.differences,
            }
            for one in compared
        },
    }
