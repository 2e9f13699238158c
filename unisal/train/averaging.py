"""A running average of the weights, often better than the weights of the last step."""

from __future__ import annotations

import copy

import torch
from torch import nn

EARLY_STEPS = 10
"""About how many steps the average forgets faster for: after n steps it keeps at most
(1 + n) / (EARLY_STEPS + n) of itself."""


class WeightAverage:
    """Exponential moving average of a model's parameters and BatchNorm statistics.

    Its `model` is a separate network that holds the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the weights after a step to the average."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (EARLY_STEPS + self.steps))
        averaged, current = [], []
        for mean, value in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                averaged.append(mean)
                current.append(value)
            else:
                mean.copy_(value)
        torch._foreach_lerp_(averaged, current, 1 - keep)
