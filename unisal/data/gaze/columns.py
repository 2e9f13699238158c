"""Which column of a table holds what, by the names that eye trackers and data sets use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unisal.errors import UserError


class Positions(NamedTuple):
    """A pair of columns that may hold positions."""

    x: str
    y: str
    units: str | None = None
    """One of `UNITS`; None if the names do not tell."""
    origin: str = "top"
    of_samples: bool = False
    """Whether they are samples of gaze, not fixations."""


POSITIONS = (
    Positions("x", "y"),
    Positions("x px", "y px", "pixels"),
    Positions("fixation point x", "fixation point y"),  # Tobii
    Positions("fixation point x mcs px", "fixation point y mcs px", "pixels"),
    Positions("fixation point x mcs norm", "fixation point y mcs norm", "share"),
    Positions("fixationpointx mcspx", "fixationpointy mcspx", "pixels"),
    Positions("fixationpointx", "fixationpointy"),
    Positions("current fix x", "current fix y", "pixels"),  # EyeLink
    Positions("fixation position x px", "fixation position y px", "pixels"),  # SMI
    Positions("fixation position x", "fixation position y"),
    Positions("fixation x px", "fixation y px", "pixels"),  # Pupil Labs
    Positions("fixation x normalized", "fixation y normalized", "share"),
    Positions("fixation x", "fixation y"),
    Positions("norm pos x", "norm pos y", "share", "bottom"),
    Positions("x norm", "y norm", "share", "bottom"),
    Positions("location x", "location y"),  # pymovements
    Positions("location 0", "location 1"),
    Positions("mean x", "mean y"),
    Positions("x mean", "y mean"),
    Positions("fix x", "fix y"),
    Positions("fixx", "fixy"),
    Positions("avg x", "avg y"),
    Positions("average x", "average y"),
    Positions("x coordinate", "y coordinate"),
    Positions("x coord", "y coord"),
    Positions("x pixel", "y pixel", "pixels"),
    Positions("fpogx", "fpogy", "share"),  # Gazepoint
    Positions("pos x", "pos y"),
    Positions("xpos", "ypos"),
    Positions("average gaze x", "average gaze y", "pixels", of_samples=True),  # EyeLink
    Positions("right gaze x", "right gaze y", "pixels", of_samples=True),
    Positions("left gaze x", "left gaze y", "pixels", of_samples=True),
    Positions("gaze point x mcs px", "gaze point y mcs px", "pixels", of_samples=True),  # Tobii
    Positions("gaze point x mcs norm", "gaze point y mcs norm", "share", of_samples=True),
    Positions("gaze point x adcs px", "gaze point y adcs px", "pixels", of_samples=True),
    Positions("gaze point x", "gaze point y", of_samples=True),
    Positions("gazepointx mcspx", "gazepointy mcspx", "pixels", of_samples=True),
    Positions("gazepointx adcspx", "gazepointy adcspx", "pixels", of_samples=True),
    Positions("gazepointx", "gazepointy", of_samples=True),
    Positions("point of regard right x px", "point of regard right y px", "pixels", "top", True),
    Positions("point of regard left x px", "point of regard left y px", "pixels", "top", True),
    Positions("gaze x px", "gaze y px", "pixels", of_samples=True),  # Neon
    Positions(
        "gaze position on surface x normalized", "gaze position on surface y normalized"
    )._replace(units="share", origin="top", of_samples=True),
    Positions("gaze x", "gaze y", of_samples=True),
    Positions("gazex", "gazey", of_samples=True),
    Positions("bpogx", "bpogy", "share", of_samples=True),
    Positions("pixel x", "pixel y", "pixels", of_samples=True),  # pymovements
    Positions("x pix", "y pix", "pixels", of_samples=True),
    Positions("x deg", "y deg", "degrees", "bottom"),
    Positions("position x", "position y", "degrees", "top", True),
)
"""Pairs of columns, the best first."""
PAIR_COLUMNS = {"location": False, "pixel": True, "position": True}
"""Single columns that hold [x, y] (pymovements), and whether they are samples."""

NAMES: Mapping[str, Sequence[str]] = {
    "stimulus": (
        *("stimulus", "image", "video", "picture", "film", "clip", "presented stimulus name"),
        *("presented media name", "media name", "stimulus name", "medianame", "image name"),
        *("image id", "imageid", "imagename", "image file", "imagefile", "picture name"),
        *("stimulus id", "video name", "video file", "video id", "movie", "photo", "img", "stim"),
        *("media", "file name", "filename", "file", "scene", "page name", "trial image", "item"),
    ),
    "observer": (
        *("observer", "subject", "participant", "participant name", "recording session label"),
        *("session label", "participant id", "participantname", "subject id", "subject nr"),
        *("subjectid", "participantid", "observer id", "subj", "sub", "person", "viewer", "user"),
        *("wearer name", "recording name", "recording id", "pp", "ppt", "ppid"),
    ),
    "start_ms": (
        *("start ms", "current fix start", "event start trial time ms", "fixation start ms"),
        *("fixation start", "start timestamp ns", "start timestamp", "onset ms", "onset", "start"),
        *("start time", "t", "t ms", "time ms", "trial time ms", "sample time", "sample index"),
        *("time", "recording timestamp", "recordingtimestamp", "recording time ms"),
        *("timestamp ms", "timestamp ns", "timestamp", "gaze timestamp", "world timestamp", "ts"),
        *("t s", "time s", "fpogs"),
    ),
    "end_ms": (
        *("end ms", "current fix end", "event end trial time ms", "fixation end", "offset"),
        *("end timestamp ns", "end", "end time"),
    ),
    "duration_ms": (
        *("duration ms", "current fix duration", "event duration ms", "gaze event duration"),
        *("gaze event duration ms", "gazeeventduration", "fixation duration", "duration"),
        *("fixation duration ms", "duration ns", "duration s", "dur", "dur ms", "fix duration"),
        *("eye movement event duration", "fpogd"),
    ),
    "frame": (
        *("frame", "frame number", "frame nr", "frame index", "frame id", "frame no"),
        *("video frame index", "video frame", "start frame index", "world index", "frameid"),
    ),
    "event": (
        *("eye movement type", "gaze event type", "gazeeventtype", "event type", "category"),
        *("category right", "category left", "category binocular", "event", "eye event"),
        *("event name", "name", "type", "sample message type"),
    ),
    "fixation_id": (
        *("eye movement type index", "gaze event type index", "fixationindex", "fixation index"),
        *("fixation id", "current fix index"),
    ),
    "confidence": ("confidence",),
    "on_stimulus": (
        *("on surf", "on surface", "gaze detected on surface", "fixation detected on surface"),
    ),
    "trial": ("trial", "trial index", "trial id", "trial number", "trial label", "trial nr"),
}
"""The usual names of the other columns, the best first."""
RECORDING_CLOCKS = frozenset(
    {
        *("recording timestamp", "recordingtimestamp", "recording time ms", "start timestamp ns"),
        *("start timestamp", "timestamp ns", "timestamp", "gaze timestamp", "world timestamp"),
        *("timestamp ms", "fpogs"),
    }
)
"""Names of times that count from the start of the recording, not of the stimulus."""
TIMES_IN_SECONDS = frozenset(
    {"start timestamp", "gaze timestamp", "world timestamp", "fpogs", "fpogd"}
)
"""Names of times in seconds that do not say so (Pupil Labs, Gazepoint)."""
WORDS_OF_UNITS = {
    "ms": 1.0,
    "s": 1e3,
    "sec": 1e3,
    "seconds": 1e3,
    "us": 1e-3,
    "μs": 1e-3,
    "µs": 1e-3,
    "ns": 1e-6,
}
"""Milliseconds of a unit that a name ends with."""
MILLISECONDS = {"ms": 1.0, "s": 1e3, "us": 1e-3, "ns": 1e-6}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what."""

    roles: Mapping[str, str]
    """The names of the columns by what they hold (`ROLES`); `x` and `y` may name the same one."""
    positions: Positions
    """What the names of the positions tell."""

    def get(self, role: str) -> str | None:
        """Return the name of a column; None if the table has none."""
        return self.roles.get(role)

    def milliseconds(self, role: str) -> float | None:
        """Return the milliseconds of a column's unit, as its name says; None if it does not."""
        name = self.roles.get(role, "")
        last = simple(name).rpartition(" ")[2]
        if last in WORDS_OF_UNITS and " " in simple(name):
            return WORDS_OF_UNITS[last]
        return 1e3 if simple(name) in TIMES_IN_SECONDS else None

    @property
    def on_recording_clock(self) -> bool:
        """Whether the name of the time says that it counts from the start of the recording."""
        name = simple(self.roles.get("start_ms", ""))
        words = name.split()
        bare = " ".join(words[:-1]) if words and words[-1] in WORDS_OF_UNITS else name
        return name in RECORDING_CLOCKS or bare in RECORDING_CLOCKS


def simple(name: str) -> str:
    """Return a name in lower case, with single spaces between its words and nothing else."""
    return " ".join(re.findall(r"[^\W_]+", name.lower()))


def find_columns(names: Iterable[str], named: Mapping[str, str], where: str) -> Columns:
    """Find out which columns hold what.

    Args:
        names: those of the columns.
        named: names that were given, by what the columns hold; they have precedence.
        where: the table, for messages.

    Raises:
        UserError: a column that was named does not exist, or positions cannot be found; lists the
            columns that exist.
    """
    names = list(names)
    for role, name in named.items():
        if name not in names:
            raise UserError(f"{where} has no column {name!r} for {role}; it has {_listed(names)}")
    free: dict[str, str] = {}
    for name in names:
        free.setdefault(simple(name), name)
    usual = {role: _first(free, known, role) for role, known in NAMES.items()}
    roles = {role: name for role, name in usual.items() if name is not None}
    roles |= named
    positions = _find_positions(free, named, where, names)
    roles["x"], roles["y"] = positions.x, positions.y
    return Columns(roles, positions)


def columns_for(role: str, names: Iterable[str]) -> list[str]:
    """Return all columns that a usual name of a role fits, the best first."""
    free: dict[str, str] = {}
    for name in names:
        free.setdefault(simple(name), name)
    return [free[name] for name in NAMES[role] if name in free]


def _first(free: Mapping[str, str], usual: Iterable[str], role: str) -> str | None:
    """Return the first of the usual names that the table has, with or without a unit."""
    units = WORDS_OF_UNITS if role.endswith("_ms") else ()
    for name in usual:
        for known in (name, *(f"{name} {unit}" for unit in units)):
            if known in free:
                return free[known]
    return None


def _find_positions(
    free: Mapping[str, str], named: Mapping[str, str], where: str, names: Sequence[str]
) -> Positions:
    """Return the columns of the positions by their names in the table."""
    if len(given := {"x", "y"} & named.keys()) == 1:
        raise UserError(f"columns in gaze.json name {given.pop()} alone; name x and y")
    known = [p for p in POSITIONS if p.x in free and p.y in free]
    if given:
        like = [p for p in known if (free[p.x], free[p.y]) == (named["x"], named["y"])]
        found = like[0] if like else Positions("", "")
        return found._replace(x=named["x"], y=named["y"])
    if known:
        return known[0]._replace(x=free[known[0].x], y=free[known[0].y])
    for name, of_samples in PAIR_COLUMNS.items():
        if name in free:
            units = "pixels" if name != "position" else "degrees"
            return Positions(free[name], free[name], units, of_samples=of_samples)
    raise UserError(
        f"{where}: no columns with x and y are found among {_listed(names)}; name them in a "
        'gaze.json beside the table: {"columns": {"x": "...", "y": "...", "stimulus": "..."}}, or '
        "with --gaze"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
