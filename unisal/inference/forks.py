"""What a forked process needs before it can predict.

A fork copies the memory of its parent but none of its threads. What waits for such a thread waits
for ever: sessions of ONNX Runtime, PyTorch's and OpenCV's pools of threads, and locks that a thread
of the parent held at that moment. So in the child PyTorch and OpenCV compute in one thread, as they
do in the workers of PyTorch's own loaders, and whoever holds locks or sessions makes them anew.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Protocol
from weakref import WeakSet

import torch


class Renewable(Protocol):
    """Holds something that does not outlive a fork."""

    def renew(self) -> None:
        """Replace it; called in the child, before anything else runs there."""
        ...


_held: WeakSet[Renewable] = WeakSet()


def renew_after_fork(holder: Renewable) -> None:
    """Have `holder.renew()` called in every process that is forked from this one."""
    _held.add(holder)


def never_free(thing: object) -> None:
    """Keep an object until the process has ended, even while Python shuts down.

    To free a session would be to wait for its threads, which a forked process does not have. The
    memory is the parent's, shared until somebody writes to it.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    torch.set_num_threads(1)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(0)  # with 1 it would wait for the threads that it had
    for holder in list(_held):
        holder.renew()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(after_in_child=_in_child)
