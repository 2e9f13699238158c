"""The device that the network runs on."""

from __future__ import annotations

import torch

from unisal.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """Return the device with a name.

    Args:
        name: "cpu", "cuda", "cuda:1", ...; "auto" for the GPU if there is one, else the CPU.

    Raises:
        UserError: the device does not exist or cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used: {reason}") from None
    return device
