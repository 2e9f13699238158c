"""The device that the network runs on."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unisal.errors import UserError

if TYPE_CHECKING:
    import torch

DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
"""The libraries without which there is no GPU for CUDA."""
AMD_DEVICE = Path("/dev/kfd")
"""What there is where PyTorch can use a GPU of AMD, which it calls "cuda" too."""


def find_device(name: str = "auto") -> str:
    """Return the device with a name: "cpu", "cuda", "cuda:1", ...

    PyTorch is asked only where there may be a GPU.

    Args:
        name: as in `pick_device`.

    Raises:
        UserError: the device does not exist or cannot be used.
    """
    if name == "cpu" or (name == "auto" and not may_have_gpu()):
        return "cpu"
    try:
        device = pick_device(name)
    except ImportError as error:
        if name == "auto":
            return "cpu"
        raise UserError(f"device {name!r} cannot be used without PyTorch: {error}") from None
    return "cpu" if device.type == "cpu" else str(device)


def may_have_gpu() -> bool:
    """Return False if PyTorch can use no GPU here for sure, since the driver is missing."""
    if AMD_DEVICE.exists():
        return True
    try:
        ctypes.CDLL(DRIVERS[sys.platform])
    except (KeyError, OSError):
        return False
    return True


def pick_device(name: str = "auto") -> torch.device:
    """Return the device with a name, for PyTorch.

    Args:
        name: "cpu", "cuda", "cuda:1", ...; "auto" for the GPU if there is one, else the CPU.

    Raises:
        UserError: the device does not exist or cannot be used.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used: {reason}") from None
    return device
