"""Memory that the C library keeps, or does not."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Numbers of glibc's options."""


def give_back_freed_memory() -> None:
    """Hand what was freed back to the system; does nothing where the C library is not glibc.

    glibc keeps it for later, in pieces between what is still in use. Worth it after something
    large that happens once: making the graph of the network leaves 24 MB (measured).
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def keep_freed_memory() -> None:
    """Have all that is freed from now on kept for later; does nothing without glibc.

    Otherwise every large tensor is new memory, which the system has to fill with zeros first: a
    fifth of the time of a training step on the CPU (measured).
    """
    library = _glibc()
    if library is not None:
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, -1)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None
