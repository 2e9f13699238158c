"""What is printed of folders of gaze data before they are used."""

from __future__ import annotations

from collections.abc import Sequence

from unisal.commands.progress import TERMINAL
from unisal.data import GazeSource, find_dataset, name_data


def named_data(sources: Sequence[str], data: str | None) -> tuple[str, ...]:
    """Return sources with a folder of gaze data among them; print what is used of each folder.

    Args:
        sources: names of sources, and NAME=PATH for folders of gaze data.
        data: another folder of gaze data, or its `gaze.json`; None for none.

    Raises:
        UserError: a source is unknown, or a folder cannot be read.
    """
    names = tuple(sources) if data is None else (*sources, name_data(data))
    for name in names:
        if issubclass(cls := find_dataset(name), GazeSource):
            print(summary(cls))
    return names


def summary(cls: type[GazeSource]) -> str:
    """Return a line about what is used of a folder of gaze data, and what was dropped."""
    report = cls.read(progress=TERMINAL).report
    lost = "".join(f", {n:,} {reason}" for reason, n in report.dropped.items())
    dropped = f"; dropped:{lost[1:]}" if lost else ""
    changed = "".join(f"; {line}" for line in report.changed)
    used = f"{cls.source}: {report.n_kept:,} of {report.n_rows:,} rows are used"
    return f"{used}{dropped}{changed}"
