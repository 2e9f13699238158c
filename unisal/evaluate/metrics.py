"""Saliency metrics as pure functions on arrays (spec 04, "Scoring").

Undefined values (no fixation, a constant map) are NaN; whoever averages leaves them out and counts
them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]
FixationMap = NDArray[np.bool_]


def kld(log_density: Map, target: Map) -> float:
    """Kullback-Leibler divergence of a prediction from the ground truth, in nats; 0 is best.

    Args:
        log_density: natural logarithm of the predicted density `[H, W]`.
        target: ground-truth density `[H, W]`, sums to 1.
    """
    t = target[target > 0].astype(np.float64)
    return float((t * (np.log(t) - log_density[target > 0])).sum())


def nss(density: Map, fixations: FixationMap) -> float:
    """Normalised scanpath saliency: the mean z-score at fixated pixels; chance is 0.

    The standard deviation is the unbiased one. NaN without fixations or for a constant map.
    """
    if is_constant(density) or not fixations.any():
        return float("nan")
    p = density.astype(np.float64)
    return float((p[fixations.astype(bool)].mean() - p.mean()) / p.std(ddof=1))


def cc(density: Map, target: Map) -> float:
    """Pearson's correlation over pixels; 1 is best. NaN if either map is constant."""
    if is_constant(density) or is_constant(target):
        return float("nan")
    p = density.astype(np.float64) - density.mean(dtype=np.float64)
    t = target.astype(np.float64) - target.mean(dtype=np.float64)
    norm = np.sqrt((p * p).sum() * (t * t).sum())
    return float((p * t).sum() / norm)


def sim(density: Map, target: Map) -> float:
    """Similarity: the overlap of two densities that both sum to 1; 1 is best."""
    p = density.astype(np.float64)
    t = target.astype(np.float64)
    return float(np.minimum(p / p.sum(), t / t.sum()).sum())


def is_constant(density: Map) -> bool:
    """Whether all values are the same. Its standard deviation need not be 0: rounding."""
    return bool(density.min() == density.max())
