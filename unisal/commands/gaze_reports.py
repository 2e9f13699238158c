"""Folders of gaze data as commands name them: how they are read, and what is printed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from unisal.commands.progress import TERMINAL
from unisal.config import accept, load_json
from unisal.data import GazeSource, find_dataset, name_data
from unisal.data.gaze import GazeOptions, is_spec, source_name
from unisal.errors import UserError


def named_data(
    sources: Sequence[str],
    data: str | None,
    gaze: Any = None,
    run: Path | None = None,
) -> tuple[str, ...]:
    """Return sources with a folder of gaze data among them; print what is used of each folder.

    Args:
        sources: see `with_entries`.
        data: another folder of gaze data, or its `gaze.json`; None for none.
        gaze: see `with_entries`.
        run: see `with_entries`.

    Raises:
        UserError: a source is unknown, a folder cannot be read, or `gaze` is wrong.
    """
    names = tuple(sources) if data is None else (*sources, name_data(data))
    names = with_entries(names, gaze, run)
    for name in names:
        if issubclass(cls := find_dataset(name), GazeSource):
            print(summary(cls))
    return names


def with_entries(sources: Sequence[str], gaze: Any, run: Path | None = None) -> tuple[str, ...]:
    """Return sources whose folders of gaze data are read as a command says.

    Args:
        sources: names of sources, and NAME=PATH for folders of gaze data.
        gaze: entries that replace those of the `gaze.json` of every folder; None for none.
        run: the folder of the run that is used; None for none. The entries that it was trained with
            replace those of the `gaze.json` too, unless `gaze` names the same ones.

    Raises:
        UserError: `gaze` holds what is no entry, or there is no folder that it could be for.
    """
    if gaze is not None:
        gaze = _checked(gaze)
        if not any(is_spec(source) for source in sources):
            raise UserError(
                "gaze says how a folder of gaze data is read, but none is named; name it with "
                "--data=FOLDER (a run that is continued reads it as it did before)"
            )
    return tuple(
        name_data(source, {**_kept_entries(run, source_name(source)), **(gaze or {})})
        if is_spec(source)
        else source
        for source in sources
    )


def _checked(gaze: Any) -> dict[str, Any]:
    """Check the names of entries; their values are checked with those of the `gaze.json`."""
    if not isinstance(gaze, Mapping):
        raise UserError(
            f"gaze is {gaze!r}; expected entries of gaze.json: --gaze=\"{{'units': 'share'}}\""
        )
    return accept(gaze, [field.name for field in fields(GazeOptions)], "gaze")


def _kept_entries(run: Path | None, name: str) -> Mapping[str, Any]:
    """Return the entries with which a run read a folder of that name."""
    kept = None if run is None else run / f"{name}Dataset.json"
    if kept is None or not kept.is_file():
        return {}
    return load_json(kept).get("gaze") or {}


def summary(cls: type[GazeSource]) -> str:
    """Return a line about what is used of a folder of gaze data, and what was dropped."""
    report = cls.read(progress=TERMINAL).report
    lost = "".join(f", {n:,} {reason}" for reason, n in report.dropped.items())
    dropped = f"; dropped:{lost[1:]}" if lost else ""
    changed = "".join(f"; {line}" for line in report.changed)
    used = f"{cls.source}: {report.n_kept:,} of {report.n_rows:,} rows are used"
    return f"{used}{dropped}{changed}"
