"""What makes predictions possible in a forked process, whatever its parent did before.

A fork copies the memory of its parent but only the thread that forks. What waits for another one
waits for ever: sessions of ONNX Runtime and PyTorch's and OpenCV's pools for their threads, and
whoever needs a lock for the thread that held it at that moment. So

* a fork waits until no thread computes, and meanwhile none begins to;
* in the child runtimes and OpenCV compute in one thread, as in the workers of PyTorch's loaders;
  runtimes forget their sessions, to make new ones when they are needed, and films that are open are
  neither read on nor closed.

A child that was forked all the same while something was being computed cannot know which locks are
held, and refuses to predict.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Condition, Lock, local
from typing import Protocol
from weakref import WeakSet

from unisal.errors import UserError

MAX_WAIT_SECONDS = 30.0
"""How long a fork waits for the calls of the network that are in progress."""


class Renewable(Protocol):
    """Holds something that does not outlive a fork."""

    def renew(self) -> None:
        """Replace it; called in the child, before anything else computes there."""
        ...


class _Gate:
    """Lets either threads compute or one of them fork."""

    def __init__(self) -> None:
        self._changed = Condition(Lock())
        self._computing = self._forking = 0
        self._own = local()
        self._was_quiet = True

    def enter(self) -> None:
        """Begin to compute; wait while another thread forks."""
        depth = getattr(self._own, "depth", 0)
        with self._changed:
            if depth == 0:
                self._changed.wait_for(lambda: self._forking == 0)
            self._computing += 1
        self._own.depth = depth + 1

    def leave(self) -> None:
        """Stop to compute."""
        self._own.depth -= 1
        with self._changed:
            self._computing -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Begin to fork: wait, but not for ever, until nobody computes."""
        with self._changed:
            self._forking += 1
            is_own = getattr(self._own, "depth", 0) > 0  # it would wait for itself
            self._was_quiet = not is_own and self._changed.wait_for(
                lambda: self._computing == 0, MAX_WAIT_SECONDS
            )

    def open(self) -> None:
        """Have forked, in the parent."""
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()

    @property
    def was_quiet(self) -> bool:
        """Whether nobody computed when this process was copied."""
        return self._was_quiet


_gate = _Gate()
_held: WeakSet[Renewable] = WeakSet()
_is_refused = _leaves_at_once = _is_forked = False


@contextmanager
def computing() -> Iterator[None]:
    """Mark a call of the network, from before its first lock to after its last.

    Raises:
        UserError: this process was forked while its parent computed.
    """
    if _is_refused:
        raise UserError(
            "this process was forked while its parent was predicting, so it cannot predict; fork "
            "before or after a prediction, or start processes with multiprocessing's 'spawn'"
        )
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


def renew_after_fork(holder: Renewable) -> None:
    """Have `holder.renew()` called in every process that is forked from this one."""
    _held.add(holder)


def compute_threads() -> int:
    """Return the number of threads that a computation may use.

    That is what PyTorch says if it is loaded, and otherwise what it would say: `$OMP_NUM_THREADS`,
    by default the number of cores that this process may use. In a forked process it is 1.
    """
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    if _is_forked:
        return 1
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(chosen) if chosen.isdecimal() and int(chosen) > 0 else _cores()


@cache
def _cores() -> int:
    """Return the number of cores that this process may use; two threads of one count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    processors = os.sched_getaffinity(0)
    cores = {str(processor) for processor in processors}
    with contextlib.suppress(OSError):
        folder = Path("/sys/devices/system/cpu")
        siblings = [folder / f"cpu{n}" / "topology" / "thread_siblings_list" for n in processors]
        cores = {path.read_text() for path in siblings}
    return len(cores)


def never_free(thing: object) -> None:
    """Keep an object until the process has ended, even while Python shuts down.

    To free a session or a decoder would be to wait for its threads, which a forked process does not
    have. The memory is the parent's, shared until somebody writes to it.
    """
    global _leaves_at_once
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    if not _leaves_at_once:
        _leaves_at_once = True
        _leave_at_once()


def _leave_at_once() -> None:
    """Have this process end, after Python has, without what C++ libraries would do then.

    Some free what is left of their own, and wait for threads that do not exist. Functions for the
    end of a process are called in reverse order, so this one, which does not return, comes before
    those of the parent.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # glibc, which calls it with the exit code
        library.on_exit(library._exit, None)


def _before() -> None:
    _gate.close()


def _in_parent() -> None:
    _gate.open()


def _in_child() -> None:
    global _gate, _is_refused, _is_forked
    _is_forked = True
    _is_refused = _is_refused or not _gate.was_quiet
    _gate = _Gate()  # another thread may have held its lock
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(0)  # with 1 it would wait for the threads that it had
    for holder in list(_held):
        holder.renew()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
