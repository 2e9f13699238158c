"""Folders of gaze data as sources: `NAME=PATH` stands wherever the name of a source can.

Behind the path, after a space, there may be a JSON object with entries that replace those of the
folder's `gaze.json`: `NAME=PATH {"units": "share"}`. Commands make it of their option `gaze`, and
so a run keeps the entries with the name of its source.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unisal.data.gaze.films import GazeVideoFolder
from unisal.data.gaze.moving_crops import MovingCrops
from unisal.data.gaze.options import MOVING_CROPS
from unisal.data.gaze.pictures import GazeFolder
from unisal.data.gaze.reading import GazeData, load_gaze
from unisal.data.gaze.source import GazeSource
from unisal.errors import UserError
from unisal.files import from_home

NAME = r"[A-Za-z][A-Za-z0-9_]*"
"""What a name may consist of."""
ENTRIES = ' {"'
"""What entries behind `NAME=PATH` begin with."""
_classes: dict[tuple[Any, ...], type[GazeSource]] = {}
"""The classes that were made, so that the same folder has the same class."""


def is_spec(source: str) -> bool:
    """Return whether text is `NAME=PATH`, and not the name of a source."""
    return "=" in source


def source_name(source: str) -> str:
    """Return the name of a source: what is before the `=` of `NAME=PATH`."""
    return source.partition("=")[0]


def spec_of(data: str, changes: Mapping[str, Any] | None = None) -> str:
    """Return `NAME=PATH`, with an absolute path, of what a user names as data.

    Args:
        data: a folder or its `gaze.json`, with or without a name before it and entries behind it.
            Without a name the folder's is taken.
        changes: further entries that replace those of the `gaze.json`; they are put behind the
            path.

    Raises:
        UserError: it does not exist, a name cannot be made of it, or an entry cannot be written as
            JSON.
    """
    name, path, given = _cut(data)
    if not path.exists():
        raise UserError(
            f"{path} does not exist; name a folder with a table of gaze, or its gaze.json"
        )
    path = path.resolve()
    if name is None:
        folder = path if path.is_dir() else path.parent
        name = re.sub(r"\W+", "_", folder.name, flags=re.ASCII).strip("_")
        if not re.fullmatch(NAME, name):
            name = f"gaze_{name}".rstrip("_")
    changes = {**given, **(changes or {})}
    return f"{name}={path}" + (f" {_written(changes)}" if changes else "")


def source_of_spec(spec: str) -> type[GazeSource]:
    """Return the class of `NAME=PATH`, with or without entries behind it.

    Raises:
        UserError: it is not of this form, or the folder cannot be read.
    """
    name, path, changes = _cut(spec)
    if name is None:
        raise UserError(f"{spec!r} is not NAME=PATH, a name of letters, digits and _ and a folder")
    return gaze_source(name, path, changes=changes)


def gaze_source(
    name: str,
    place: Path,
    domain: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> type[GazeSource]:
    """Make a source of a folder of gaze data.

    Args:
        name: what it is called in scores, predictions and files.
        place: the folder, or the `gaze.json` that describes it.
        domain: the network domain; None for the one in `gaze.json`, else DHF1K for films and
            SALICON for pictures, unless a run has another, see
            `unisal.predict.presets.source_domain`.
        changes: entries that replace those of the `gaze.json`.

    Returns:
        A class derived from `GazeFolder` for pictures, from `GazeVideoFolder` for films, from
        `MovingCrops` for films made of pictures. The same arguments give the same class.

    Raises:
        UserError: the name is not allowed, or the folder cannot be read.
    """
    if not re.fullmatch(NAME, name):
        raise UserError(
            f"the name {name!r} of {place} has to consist of letters, digits and _, with a letter "
            "first"
        )
    place, changes = Path(from_home(str(place))).resolve(), dict(changes or {})
    data = load_gaze(place, changes)
    base = _base(data)
    named = domain or data.place.options.domain
    key = name, place, named, base, repr(sorted(changes.items()))
    if key not in _classes:
        values = {
            "__doc__": base.__doc__,
            "__module__": base.__module__,
            "source": name,
            "place": place,
            "changes": changes,
            "domain": named or base.domain,
            "names_domain": named is not None,
            "scalar_prefix": name,
            "score_name": name,
        }
        _classes[key] = type(f"{name}Dataset", (base,), values)
    return _classes[key]


def _base(data: GazeData) -> type[GazeSource]:
    """Return the class that the source of a folder is derived from."""
    if data.place.options.kind == MOVING_CROPS:
        return MovingCrops
    return GazeVideoFolder if data.is_video else GazeFolder


def _cut(data: str) -> tuple[str | None, Path, dict[str, Any]]:
    """Cut `NAME=PATH {...}` into name, path and entries; of a path alone the name is None."""
    place, changes = _cut_entries(str(data))
    name, sign, path = place.partition("=")
    if sign and re.fullmatch(NAME, name) and not Path(from_home(place)).exists():
        return name, Path(from_home(path)), changes
    return None, Path(from_home(place)), changes


def _cut_entries(text: str) -> tuple[str, dict[str, Any]]:
    """Cut entries off the end of a text; what looks like entries and is no JSON is no entries."""
    begin = text.find(ENTRIES)
    while begin >= 0:
        with contextlib.suppress(ValueError):
            return text[:begin], dict(json.loads(text[begin:]))
        begin = text.find(ENTRIES, begin + 1)
    return text, {}


def _written(changes: Mapping[str, Any]) -> str:
    """Return entries as JSON."""
    try:
        return json.dumps(changes, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"gaze: {dict(changes)} cannot be written as JSON: {error}") from None
