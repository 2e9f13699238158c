"""Progress bars and lines on a terminal, for the library's `Progress`."""

from __future__ import annotations

from types import TracebackType

from tqdm import tqdm

from unisal.progress import Bar


class TerminalBar:
    """A bar with a rate and an estimate; silent unless the output is a terminal."""

    def __init__(self, title: str, unit: str, total: int | None, done: int, keep: bool) -> None:
        self._bar: tqdm[None] = tqdm(
            total=total, initial=done, desc=title, unit=unit, leave=keep, disable=None
        )

    def update(self, n: int = 1) -> None:
        """Count `n` more items as done."""
        self._bar.update(n)

    def expect(self, n: int) -> None:
        """Count on `n` more items than were announced; fewer if it is negative."""
        if self._bar.total is not None:
            self._bar.total += n

    def describe(self, title: str) -> None:
        """Change the title."""
        self._bar.set_description(title)

    def note(self, text: str) -> None:
        """Show a short text beside the count."""
        self._bar.set_postfix_str(text, refresh=False)

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()


class Terminal:
    """Shows the progress of the library's long work on the terminal."""

    def bar(
        self, title: str, unit: str, total: int | None = None, done: int = 0, keep: bool = True
    ) -> Bar:
        """Start a bar; see `unisal.progress.Progress.bar`."""
        return TerminalBar(title, unit, total, done, keep)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        tqdm.write(line)


TERMINAL = Terminal()
