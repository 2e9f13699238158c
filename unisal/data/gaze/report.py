"""What was dropped from a table of gaze, what was changed, and what was assumed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class GazeReport:
    """What became of the rows of a table.

    A row that is dropped counts once, under the first reason that applies.
    """

    n_rows: int = 0
    """The rows of the table."""
    n_kept: int = 0
    """The rows that are used."""
    dropped: dict[str, int] = field(default_factory=dict)
    """The number of dropped rows by the reason."""
    changed: list[str] = field(default_factory=list)
    """What was changed in the rows that are used, in words."""
    assumed: list[str] = field(default_factory=list)
    """What the table does not say and was assumed, in words."""

    def drop(self, n: int, reason: str) -> None:
        """Count `n` dropped rows."""
        if n:
            self.dropped[reason] = self.dropped.get(reason, 0) + int(n)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        kept = f"{self.n_kept:,} of {self.n_rows:,} rows are used"
        lost = [f"dropped: {n:,} {reason}" for reason, n in self.dropped.items()]
        return [kept, *lost, *self.changed, *self.assumed]
