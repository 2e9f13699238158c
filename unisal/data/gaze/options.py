"""What a `gaze.json` says about a folder of gaze data: all of it may be left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from unisal.checks import check_count, check_number
from unisal.config import accept
from unisal.errors import UserError

CONFIG = "gaze.json"
"""The name of the file."""
DEFAULT_BLUR_DEGREES, DEFAULT_BLUR_SHARE = 1.0, 0.03
"""The blur where the size of a degree is known, and as a share of the longer side where not."""
UNITS = ("pixels", "pixels_from_1", "share", "degrees")
ROLES = (
    *("stimulus", "x", "y", "observer", "start_ms", "end_ms", "duration_ms", "frame"),
    *("event", "fixation_id", "confidence", "on_stimulus", "trial"),
)
"""What columns are for. A name without `_ms` is taken as well: `start`, `end`, `duration`, `t`."""
OTHER_NAMES = {"t": "start_ms", "start": "start_ms", "end": "end_ms", "duration": "duration_ms"}
MOVING_CROPS = "moving_crops"
KINDS = ("pictures", "films", MOVING_CROPS)
PLACEMENTS = ("centred", "fitted", "stretched")
TEXTS = ("folder", "table", "stimuli", "domain", "separator", "encoding", "weights", "split_by")
"""Options that are text."""
CHOICES: dict[str, tuple[str, ...]] = {
    "units": UNITS,
    "origin": ("top", "bottom"),
    "kind": KINDS,
    "time_zero": ("stimulus", "first"),
    "time_unit": ("ms", "s", "us", "ns"),
}


@dataclass(frozen=True)
class Screen:
    """The screen that stimuli were shown on.

    Options:
        width_px, height_px: its resolution.
        width_cm: its width, and distance_cm: the distance of the eyes from it; together with
            width_px they say how large a degree is.
    """

    width_px: float
    height_px: float
    width_cm: float | None = None
    distance_cm: float | None = None

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if value is not None:
                check_number(value, f"{CONFIG}: screen's {option.name}", above=True)

    @property
    def pixels_per_degree(self) -> float | None:
        """The pixels of a degree in the middle of the screen; None if it is not known."""
        per_cm = self.pixels_per_cm
        return per_cm * math.tan(math.radians(1)) * self.distance_cm if self.distance_cm else None

    @property
    def pixels_per_cm(self) -> float:
        """The pixels of a centimetre; NaN if it is not known."""
        return self.width_px / self.width_cm if self.width_cm else math.nan


@dataclass(frozen=True)
class GazeOptions:
    """How a folder of gaze data is read, as its `gaze.json` says.

    Options:
        folder: the folder of the data, relative to the file (the one that it lies in).
        table: the file of the table (the only one in the folder).
        stimuli: the folder of the pictures or films (stimuli, images, videos, ..., else the folder
            itself).
        kind: pictures, films (if there are video files), or moving_crops: films made of the
            pictures, a window gliding over each.
        domain: the network domain (SALICON for pictures, or the run's default; DHF1K for films).
        columns: the names of columns, by what they hold: stimulus, x, y, observer, start_ms (or
            t), end_ms, duration_ms, frame, event, ... (found by their usual names).
        separator, encoding: of a text file (found out).
        keep: the values of columns whose rows are used: {"Task": ["search", "free"]} (all rows).
        units: of the positions. pixels: of the stimulus, 0 being the middle of the first one;
            pixels_from_1; share: of the width and height, 0 to 1; degrees from the middle
            (share if all lie between 0 and 1, else pixels).
        origin: top if y grows downwards, bottom if it grows upwards (top; bottom for degrees and
            for Pupil Labs).
        screen: where positions are on the screen and not on the stimulus: width_px, height_px,
            width_cm, distance_cm.
        placement: how stimuli were shown on the screen. centred: in the middle, pixel by pixel;
            fitted: in the middle, as large as possible; stretched: over all of it; or
            [left, top, width, height] in pixels of the screen (None: positions are on the
            stimulus).
        pixels_per_degree: of the positions (from the screen, else unknown).
        blur_degrees, blur_pixels, blur_share: the standard deviation of the Gaussian that turns
            fixations into a map, in degrees, in pixels of the stimulus, or as a share of its longer
            side (1 degree; 0.03 of the longer side where the size of a degree is not known).
        weights: what a fixation counts: duration, or the name of a column (1).
        groups: columns whose values group fixations, in scores: condition, age group, ... (none)
        split_by: a column; stimuli with the same value stay in the same part (none).
        splits: {"train": [...], "val": [...], "test": [...]}, or the name of a file that holds it
            (splits.json if there is one; else a fifth of the stimuli, drawn by a seed, is val).
        frames_from: the number of a film's first frame, 0 or 1 (1 if no frame is numbered 0 and one
            has the number of the last frame plus 1, else 0).
        frame_window: for how many frames before and after its own a fixation counts (0).
        frame_rate: frames per second, for films as folders of frames (24).
        time_unit: ms, s, us or ns (as the column's name says, else ms).
        time_zero: stimulus if times count from the start of the stimulus; first if they are those
            of the recording, so that the first row of a person with a stimulus is its start.
        min_confidence: rows with a lower confidence are dropped (0.6).
    """

    folder: str | None = None
    table: str | None = None
    stimuli: str | None = None
    kind: str | None = None
    domain: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    encoding: str | None = None
    keep: Mapping[str, Any] = field(default_factory=dict)
    units: str | None = None
    origin: str | None = None
    screen: Screen | None = None
    placement: str | Sequence[float] | None = None
    pixels_per_degree: float | None = None
    blur_degrees: float | None = None
    blur_pixels: float | None = None
    blur_share: float | None = None
    weights: str | None = None
    groups: Sequence[str] = ()
    split_by: str | None = None
    splits: Mapping[str, Any] | str | None = None
    frames_from: int | None = None
    frame_window: int = 0
    frame_rate: float = 24
    time_unit: str | None = None
    time_zero: str | None = None
    min_confidence: float = 0.6

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> GazeOptions:
        """Make checked options.

        Args:
            given: what a `gaze.json` holds.

        Raises:
            UserError: an option is unknown, or its value is not allowed; names it.
        """
        values = accept(given, [f.name for f in fields(cls)], CONFIG)
        values = {k: v for k, v in values.items() if v is not None}
        if "screen" in values:
            known = [f.name for f in fields(Screen)]
            screen = _known(_mapping(values["screen"], "screen"), known, "screen")
            if missing := [name for name in ("width_px", "height_px") if name not in screen]:
                raise UserError(f"{CONFIG}: screen lacks {' and '.join(missing)}")
            values["screen"] = Screen(**screen)
        if "columns" in values:
            columns = _mapping(values["columns"], "columns")
            columns = {OTHER_NAMES.get(role, role): name for role, name in columns.items()}
            values["columns"] = _known(columns, ROLES, "columns")
        if isinstance(values.get("groups"), str):
            values["groups"] = (values["groups"],)
        return cls(**values)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise UserError(f"{CONFIG}: {name} is {value!r}; allowed are {', '.join(allowed)}")
        _mapping(self.keep, "keep")
        if self.splits is not None and not isinstance(self.splits, Mapping | str):
            raise UserError(
                f"{CONFIG}: splits is {self.splits!r}; it has to be an object or a file"
            )
        for name in TEXTS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise UserError(f"{CONFIG}: {name} is {value!r}; it has to be text")
        names = (*self.groups, *self.columns.values())
        if strange := [name for name in names if not isinstance(name, str)]:
            raise UserError(f"{CONFIG}: {strange[0]!r} is no name of a column")
        for name in ("pixels_per_degree", "blur_degrees", "blur_pixels", "blur_share"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), f"{CONFIG}: {name}", above=True)
        blurs = [n for n in ("blur_degrees", "blur_pixels", "blur_share") if getattr(self, n)]
        if len(blurs) > 1:
            raise UserError(f"{CONFIG}: {' and '.join(blurs)} are given; give one of them")
        if self.blur_degrees and not self.degree_in_pixels:
            raise UserError(
                f"{CONFIG}: blur_degrees needs pixels_per_degree, or width_cm and distance_cm of "
                "the screen"
            )
        if self.frames_from is not None:
            check_count(self.frames_from, f"{CONFIG}: frames_from", 0, 1)
        check_count(self.frame_window, f"{CONFIG}: frame_window", 0)
        check_number(self.frame_rate, f"{CONFIG}: frame_rate", above=True)
        check_number(self.min_confidence, f"{CONFIG}: min_confidence", largest=1)
        self._check_placement()

    @property
    def degree_in_pixels(self) -> float | None:
        """The pixels of a degree, of the screen if it is described; None if it is not known."""
        if self.pixels_per_degree is not None:
            return self.pixels_per_degree
        return self.screen.pixels_per_degree if self.screen else None

    def _check_placement(self) -> None:
        place = self.placement
        if place is None:
            return
        if self.screen is None:
            raise UserError(f"{CONFIG}: placement needs the screen's width_px and height_px")
        if isinstance(place, str) and place in PLACEMENTS:
            return
        if not isinstance(place, str) and isinstance(place, Sequence) and len(place) == 4:
            for value, name in zip(place, ("left", "top", "width", "height"), strict=True):
                is_size = name in ("width", "height")
                check_number(value, f"{CONFIG}: placement's {name}", -math.inf, above=is_size)
                if is_size:
                    check_number(value, f"{CONFIG}: placement's {name}", above=True)
            return
        raise UserError(
            f"{CONFIG}: placement is {place!r}; it has to be {', '.join(PLACEMENTS)} or "
            "[left, top, width, height]"
        )


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{CONFIG}: {name} is {value!r}; it has to be an object")
    return value


def _known(values: Mapping[str, Any], known: Sequence[str], name: str) -> dict[str, Any]:
    """Check the keys of an object inside the file."""
    return accept(values, known, f"{name} in {CONFIG}")
