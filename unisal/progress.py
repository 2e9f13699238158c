"""How the library reports the progress of long work to its caller without printing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Bar(Protocol):
    """Counts the items of a piece of work; used in a `with` statement."""

    def update(self, n: int = 1) -> None:
        """Count `n` more items as done."""

    def expect(self, n: int) -> None:
        """Count on `n` more items than were announced; fewer if it is negative."""

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
    """Receives what long work reports while it runs."""

    def bar(
        self, title: str, unit: str, total: int | None = None, done: int = 0, keep: bool = True
    ) -> Bar:
        """Start counting.

        Args:
            title: what is being done.
            unit: what is counted, in the singular.
            total: how many items there are, None if that is not known.
            done: how many items were done before.
            keep: whether the bar stays on the screen when the work is done.

        Returns:
            The bar, to be used in a `with` statement.
        """
        ...

    def say(self, line: str) -> None:
        """Show the user a line, such as the losses of an epoch."""


class _SilentBar:
    def update(self, n: int = 1) -> None:
        pass

    def expect(self, n: int) -> None:
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
    """A `Progress` that shows nothing, which library calls use by default."""

    def bar(
        self, title: str, unit: str, total: int | None = None, done: int = 0, keep: bool = True
    ) -> Bar:
        """Return a bar that shows nothing."""
        return _SilentBar()

    def say(self, line: str) -> None:
        """Drop the line."""


SILENT: Progress = Silent()
