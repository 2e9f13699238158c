"""Ctrl-C that takes effect between two steps, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from unisal.errors import EXIT_INTERRUPTED


class DeferredInterrupt:
    """Inside this context the first Ctrl-C only sets a flag, and `check()` raises the interrupt.

    So an update of the weights is either complete or not begun, and a checkpoint can be written.
    A second Ctrl-C ends the program at once. Outside the main thread this has no effect.
    """

    def __init__(self) -> None:
        self._marked = False
        self._before: signal.Handlers | object = None

    def __enter__(self) -> DeferredInterrupt:
        self._mine = threading.current_thread() is threading.main_thread()
        if self._mine:
            self._before = signal.signal(signal.SIGINT, self._mark)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._marked:
            raise KeyboardInterrupt

    def _mark(self, _signal: int, _frame: FrameType | None) -> None:
        if self._marked:  # a second time: weights may be half updated, so nothing is saved
            raise SystemExit(EXIT_INTERRUPTED)
        self._marked = True
