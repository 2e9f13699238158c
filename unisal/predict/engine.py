"""The one way to run the network for prediction."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from unisal.device import pick_device
from unisal.model import UNISAL

log = logging.getLogger(__name__)


class Engine:
    """A network in evaluation mode on a device.

    Everything that predicts goes through here: pictures in memory, folders, datasets that are
    scored.
    """

    def __init__(self, model: UNISAL, device: str = "auto") -> None:
        self.device = pick_device(device)
        # Forward only, convolutions are faster with the channels last (measured on CPU and GPU).
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def domain(self, name: str) -> str:
        """-> the network's domain of that name, or its first one with a warning."""
        if name in self.model.sources:
            return name
        first = self.model.sources[0]
        log.warning("the network has no domain %r; using %r", name, first)
        return first

    @torch.inference_mode()
    def images(self, frames: Tensor, target_size: tuple[int, int], domain: str) -> Tensor:
        """Predict unrelated images.

        Args:
            frames: `[n, 3, H, W] float32`, ImageNet-normalised, H and W multiples of 32.
            target_size: (h, w) of the predictions.
            domain: whose modules to use, one of the network's sources.

        Returns:
            Log-densities `[n, h, w] float32` on the CPU; exp sums to 1 per image.
        """
        x = frames.to(self.device).unsqueeze(1)  # [n, 1, 3, H, W]
        y = self.model(x, target_size=target_size, source=domain, static=True)
        return y[:, 0, 0].float().cpu()
