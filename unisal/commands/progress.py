"""Progress bars and lines on a terminal, for the library's `Progress`."""

from __future__ import annotations

import sys
from types import TracebackType

from unisal.progress import SILENT, Bar


class TerminalBar:
    """A bar with a rate and an estimate."""

    def __init__(self, title: str, unit: str, total: int | None, done: int, keep: bool) -> None:
        from tqdm import tqdm  # here, since it is of use on a terminal alone

        self._bar: tqdm[None] = tqdm(total=total, initial=done, desc=title, unit=unit, leave=keep)

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
        """Start a bar, silent unless the output is a terminal; see `Progress.bar`."""
        if not (sys.stderr and sys.stderr.isatty()):
            return SILENT.bar(title, unit, total, done, keep)
        return TerminalBar(title, unit, total, done, keep)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        from tqdm import tqdm

        tqdm.write(line)


TERMINAL = Terminal()
