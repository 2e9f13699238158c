"""Learned Gaussian prior maps (paper, section 3.3; docs/behaviour.md, "Gaussian priors")."""

from __future__ import annotations

import torch
from torch import Tensor

PRIOR_SCALE = 6.0
"""Height of a prior map's peak: the range of ReLU6, which the features beside it have too."""


def gaussian_maps(parameters: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute axis-aligned Gaussians with peak 1 on the unit square.

    Args:
        parameters: `[n, 2, 2]` = [index, (y, x), (mu, log std)], in units of the picture's side.
        size: (height, width) of the maps.

    Returns:
        `[n, height, width]`, differentiable in the parameters.
    """
    profiles = []
    for axis, length in enumerate(size):
        mu, log_std = parameters[:, axis, 0, None], parameters[:, axis, 1, None]
        grid = torch.linspace(0.0, 1.0, length, device=parameters.device, dtype=parameters.dtype)
        profiles.append(torch.exp(-0.5 * ((grid - mu) / torch.exp(log_std)) ** 2))  # [n, length]
    return profiles[0][:, :, None] * profiles[1][:, None, :]


def initial_gaussians(init: str, n: int) -> Tensor:
    """Return the priors that training starts from.

    Args:
        init: "manual" for 16 blobs and bands, "random" for random ones around the centre.
        n: how many random ones; "manual" always makes 16.

    Returns:
        `[n, 2, 2]`, see `gaussian_maps`.

    Raises:
        ValueError: `init` is neither "manual" nor "random".
    """
    if init == "manual":
        return _manual_gaussians()
    if init == "random":
        mu, log_std = torch.randn(n, 2) * 0.1 + 0.5, torch.randn(n, 2) * 0.2 - 1.0
        return torch.stack([mu, log_std], dim=-1)
    raise ValueError(f"gaussian_init is {init!r}; allowed are 'manual' and 'random'")


def _manual_gaussians() -> Tensor:
    """Return a grid of blobs, bands in both directions, and a broad centre."""
    thirds = (0.25, 0.5, 0.75)
    rows = [((y, -1.5), (x, -1.5)) for y in thirds for x in thirds]  # a grid of blobs
    rows += [((0.5, 0.0), (x, -1.5)) for x in thirds]  # vertical bands
    rows += [((y, -1.5), (0.5, 0.0)) for y in thirds]  # horizontal bands
    rows += [((0.5, 0.0), (0.5, 0.0))]  # the broad centre
    return torch.tensor(rows)
