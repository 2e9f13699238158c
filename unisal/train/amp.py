"""Mixed precision: convolutions in 16 bits; weights, losses and metrics in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unisal.errors import UserError

MAX_SKIPPED = 20
"""After how many updates in a row that were left out training gives up. The factor of the loss
starts at 2**16 and is halved each time, so by then something else makes the gradients overflow."""


class MixedPrecision:
    """What a training step does differently in 16 bits; nothing in float32.

    Args:
        dtype: what convolutions compute in; None for float32.
        device: where the network runs.

    Attributes:
        dtype: see above.
        scaler: the factor that keeps gradients in fp16 from vanishing; None in other precisions.
        n_skipped: how many updates of the run were left out since their gradients overflowed.
        skipped_in_a_row: how many of them were the last ones.
    """

    def __init__(self, dtype: torch.dtype | None, device: torch.device) -> None:
        self.device = device
        self.dtype = dtype
        # bf16 has the range of float32, so only gradients in fp16 underflow.
        self.scaler = torch.amp.GradScaler(device.type) if dtype == torch.float16 else None
        self.n_skipped = self.skipped_in_a_row = 0

    @classmethod
    def named(cls, amp: str, device: torch.device) -> MixedPrecision:
        """Return what an option stands for on a device.

        Args:
            amp: off, auto, bf16 or fp16. auto: on a GPU bf16, or fp16 where it has no bf16; else
                off.
            device: where the network runs.

        Raises:
            UserError: the device cannot compute in the precision.
        """
        return cls(_dtype(amp, device), device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the network is called."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return a loss whose gradients do not underflow."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Give the gradients their own size again, before they are clipped."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Update the weights; in fp16 an update whose gradients overflow is left out."""
        if self.scaler is None:
            optimizer.step()
            return
        scale = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        is_skipped = self.scaler.get_scale() < scale
        self.n_skipped += is_skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if is_skipped else 0

    @property
    def gives_up(self) -> bool:
        """Whether so many updates in a row were left out that none will be made."""
        return self.skipped_in_a_row >= MAX_SKIPPED

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to keep; empty but for fp16."""
        if self.scaler is None:
            return {}
        counts = {"n_skipped": self.n_skipped, "skipped_in_a_row": self.skipped_in_a_row}
        return self.scaler.state_dict() | counts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the state of a checkpoint; one without leaves it as it is."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)
            self.n_skipped = int(state["n_skipped"])
            self.skipped_in_a_row = int(state["skipped_in_a_row"])


def _dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """Return the type that an option stands for on a device."""
    on_gpu = device.type == "cuda"
    # Older GPUs emulate bf16, slowly.
    has_bf16 = on_gpu and torch.cuda.get_device_capability(device)[0] >= 8
    if amp == "auto":
        amp = ("bf16" if has_bf16 else "fp16") if on_gpu else "off"
    if amp == "fp16" and not on_gpu:
        raise UserError(f"amp is 'fp16', which needs a GPU, but the device is {device}; take bf16")
    if amp == "bf16" and on_gpu and not has_bf16:
        raise UserError(f"amp is 'bf16', which the device {device} does not have; take fp16")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
