"""Ctrl-C, and other signals that end a program, between two steps and not in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from unisal.errors import EXIT_INTERRUPTED

ENDING_SIGNALS = ("SIGTERM", "SIGHUP")
"""Signals that are put off as well, where the program handles them itself."""


class DeferredInterrupt:
    """Inside this context the first Ctrl-C only sets a flag, and `check()` raises the interrupt.

    So an update of the weights is either complete or not begun, and a checkpoint can be written.
    A second Ctrl-C ends the program at once. Other signals that would end the program are put off
    in the same way if it has a handler for them, which `check()` then calls. Outside the main
    thread this has no effect.
    """

    def __init__(self) -> None:
        self._marked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._mark)
            for number in (getattr(signal, n) for n in ENDING_SIGNALS if hasattr(signal, n)):
                if callable(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._mark)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_marked(self) -> bool:
        """Return whether Ctrl-C was pressed or a signal came."""
        return self._marked is not None

    def check(self, agreed: bool | None = None) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed, or what the handler of a signal raises.

        Args:
            agreed: whether several processes have agreed to end here, so that all of them end at
                the same step; None: that is for this one alone to say.
        """
        if not (self.is_marked() if agreed is None else agreed):
            return
        if self._marked not in (None, signal.SIGINT):
            self._before[self._marked](self._marked, None)
        raise KeyboardInterrupt

    def _mark(self, number: int, _frame: FrameType | None) -> None:
        if number == self._marked == signal.SIGINT:
            # A second time: weights may be half updated, so nothing is saved.
            raise SystemExit(EXIT_INTERRUPTED)
        self._marked = number
