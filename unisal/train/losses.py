"""The training loss: named, weighted summands (paper, section 4.1; docs/behaviour.md, "An epoch").

All functions take a log-density `[B, T, 1, h, w]`, its exponential, the density of the ground truth
and the fixation map, all of the same shape, and return one value per frame `[B, T]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

NSS_WITHOUT_FIXATIONS = 1.0
SMALLEST_NORM = 1e-30
"""Smaller than the norm of any target that is not constant; avoids a division by zero."""
PIXELS = (-3, -2, -1)


class BatchLoss(NamedTuple):
    """The loss of one batch."""

    total: Tensor
    """Weighted sum of the parts, a scalar with a gradient."""
    parts: dict[str, Tensor]
    """Each summand before its weight, averaged over batch and time."""


def kld(log_density: Tensor, density: Tensor, target: Tensor, fixations: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of the prediction from the target, in nats."""
    return (torch.xlogy(target, target) - target * log_density).sum(PIXELS)


def nss(log_density: Tensor, density: Tensor, target: Tensor, fixations: Tensor) -> Tensor:
    """Compute the normalised scanpath saliency; 1.0 for a frame without fixations."""
    n_fixations = fixations.sum(PIXELS)
    # The mean over fixations of (p - mean) / std, without making the normalised map.
    at_fixations = (density * fixations).sum(PIXELS) / n_fixations.clamp(min=1)
    scores = (at_fixations - density.mean(PIXELS)) / density.std(PIXELS)
    return torch.where(n_fixations > 0, scores, NSS_WITHOUT_FIXATIONS)


def cc(log_density: Tensor, density: Tensor, target: Tensor, fixations: Tensor) -> Tensor:
    """Compute Pearson's correlation coefficient over pixels; 0.0 for a constant target."""
    p = density - density.mean(PIXELS, keepdim=True)
    t = target - target.mean(PIXELS, keepdim=True)
    t = t / t.square().sum(PIXELS, keepdim=True).sqrt().clamp(min=SMALLEST_NORM)
    return (p * t).sum(PIXELS) / p.square().sum(PIXELS).sqrt()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "kld": kld,
    "nss": nss,
    "cc": cc,
}


def batch_loss(
    log_density: Tensor, target: Tensor, fixations: Tensor, weights: Mapping[str, float]
) -> BatchLoss:
    """Compute the weighted sum of the losses named in `weights`.

    Args:
        log_density: the network's prediction, `[B, T, 1, h, w]`.
        target: the density of the ground truth, of the same shape.
        fixations: the fixation map, of the same shape, `bool`.
        weights: the weights of the losses, by name.
    """
    density = log_density.exp()
    parts = {n: LOSSES[n](log_density, density, target, fixations).mean() for n in weights}
    total = torch.stack([weight * parts[name] for name, weight in weights.items()]).sum()
    return BatchLoss(total, parts)
