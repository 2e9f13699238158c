"""How the library tells its caller how far long work has come, without printing itself."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Bar(Protocol):
    """Counts the items of one piece of work; used in a `with` statement."""

    def update(self, n: int = 1) -> None:
        """Count `n` more items as done."""

    def describe(self, title: str) -> None:
        """Change the title."""

    def note(self, text: str) -> None:
        """Show a short text beside the count, a running loss for instance."""

    def __enter__(self) -> Bar: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Progress(Protocol):
    """Receives what long work has to tell while it runs."""

    def bar(
        self, title: str, unit: str, total: int | None = None, done: int = 0, keep: bool = True
    ) -> Bar:
        """Start to count.

        Args:
            title: what is being done.
            unit: what is counted, in the singular.
            total: how many items there are, None if that is not known.
            done: how many were done before.
            keep: whether the bar stays on the screen when the work is done.
        """
        ...

    def say(self, line: str) -> None:
        """Tell the user a line, such as the losses of an epoch."""


class _SilentBar:
    def update(self, n: int = 1) -> None:
        pass

    def describe(self, title: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Silent:
    """A `Progress` that shows nothing: what library calls use unless they are given another."""

    def bar(
        self, title: str, unit: str, total: int | None = None, done: int = 0, keep: bool = True
    ) -> Bar:
        """Return a bar that shows nothing."""
        return _SilentBar()

    def say(self, line: str) -> None:
        """Drop the line."""


SILENT: Progress = Silent()
