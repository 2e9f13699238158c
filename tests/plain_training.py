"""The training loss and the update of SGD in their plainest form, frame by frame and number by
number; shares no code with the package."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def plain_losses(log_density: Tensor, target: Tensor, fixations: Tensor) -> dict[str, Tensor]:
    """`[B, T, 1, h, w]` each -> kld, nss, cc, averaged over batch and time."""
    values: dict[str, list[Tensor]] = {"kld": [], "nss": [], "cc": []}
    for b in range(log_density.shape[0]):
        for t in range(log_density.shape[1]):
            q, g, f = log_density[b, t, 0], target[b, t, 0], fixations[b, t, 0]
            p = torch.exp(q)
            some = g > 0
            values["kld"].append((g[some] * (torch.log(g[some]) - q[some])).sum())
            z = (p - p.mean()) / p.std()
            values["nss"].append(z[f].mean() if f.any() else torch.tensor(1.0))
            values["cc"].append(torch.corrcoef(torch.stack([p.flatten(), g.flatten()]))[0, 1])
    return {name: torch.stack(v).mean() for name, v in values.items()}


def plain_sgd(
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor | None],
    velocities: dict[str, Tensor],
    lr: Mapping[str, float],
    weight_decay: Mapping[str, float],
    momentum: float,
    grad_clip: float | None,
) -> tuple[dict[str, Tensor], float]:
    """One step -> (new parameters, norm of the gradient before clipping); updates `velocities`.

    A parameter without a gradient stays as it is, whatever its velocity.
    """
    present = {k: g for k, g in gradients.items() if g is not None}
    norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in present.values()))
    scale = min(1.0, grad_clip / (norm + 1e-6)) if grad_clip is not None else 1.0
    updated = dict(parameters)
    for key, gradient in present.items():
        step = gradient * scale + weight_decay[key] * parameters[key]
        if key in velocities:
            step = momentum * velocities[key] + step
        velocities[key] = step
        updated[key] = parameters[key] - lr[key] * step
    return updated, norm
