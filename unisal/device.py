"""The device that the network runs on."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unisal.errors import UserError

if TYPE_CHECKING:
    import torch

DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
"""The libraries without which there is no GPU for CUDA."""
MANAGEMENT = {"linux": "libnvidia-ml.so.1", "win32": "nvml.dll"}
"""The libraries that know how many GPUs there are."""
DRIVER_NOT_LOADED = 9
"""What NVML answers where its driver is installed but there is no GPU that it runs."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
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
    """Return False if PyTorch can use no GPU here for sure: none is there, or none may be seen."""
    if AMD_DEVICE.exists():
        return True
    if os.environ.get(VISIBLE, "0").strip() in ("", "-1"):
        return False
    try:
        ctypes.CDLL(DRIVERS[sys.platform])
    except (KeyError, OSError):
        return False
    return count_gpus() != 0


def count_gpus() -> int | None:
    """Return how many GPUs NVIDIA's driver sees; None where that cannot be found out.

    Its management library is asked. Unlike CUDA, it can be used before a process is forked.
    """
    try:
        library = ctypes.CDLL(MANAGEMENT[sys.platform])
        start, stop, count = (
            getattr(library, name)
            for name in ("nvmlInit_v2", "nvmlShutdown", "nvmlDeviceGetCount_v2")
        )
    except (KeyError, OSError, AttributeError):
        return None
    if (status := start()) != 0:
        return 0 if status == DRIVER_NOT_LOADED else None
    found = ctypes.c_uint()
    status = count(ctypes.byref(found))
    stop()
    return found.value if status == 0 else None


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
