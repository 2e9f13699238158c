"""From the rows of a table to fixations in pixels of the stimuli.

Whatever is dropped, changed or assumed on the way is counted in a `GazeReport`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.data.gaze.columns import MILLISECONDS, Columns, find_columns, simple
from unisal.data.gaze.film import Film
from unisal.data.gaze.options import GazeOptions
from unisal.data.gaze.report import GazeReport
from unisal.data.gaze.table import Column, Table, joint_codes, to_numbers, to_text
from unisal.errors import UserError
from unisal.types import Size

FIXATION_WORDS = ("fixation", "fix", "visual intake", "efix", "fixation l", "fixation r")
OTHER_EVENTS = (
    *("saccade", "blink", "sacc", "esacc", "eblink", "eyesnotfound", "unclassified", "unknown"),
    *("smooth pursuit", "separator", "user event", "message", "noise", "pso", "glissade"),
)
"""Words of events, as `simple` writes them."""
MOST = 0.99
"""The share of positions that have to lie between 0 and 1 to be taken as shares of the sides."""
MAX_SHARE = 2.0
"""The largest of such positions: nobody looks further away and is still recorded."""
MAX_SAMPLE_MS = 40
"""Rows without durations that follow each other faster than this are samples, not fixations."""
SHORTEST_FIXATION_MS, SHORTEST_TABLE_MS = 10, 600
"""Fractions of milliseconds are seconds if fixations would be shorter, or all gaze together."""
NEAR_BORDER = 2
"""Pixels beyond the right border in which nothing may lie if the last pixel is to be the border."""
NO_FRAME = -1


class Rows:
    """The rows of a table on their way to fixations.

    Args:
        table: the table.
        options: how it is read.

    Raises:
        UserError: a column is missing; names it.
    """

    def __init__(self, table: Table, options: GazeOptions) -> None:
        self.table, self.options = table, options
        self.columns: Columns = find_columns(table.columns, options.columns, str(table.path))
        self.report = GazeReport(n_rows=table.n_rows + table.n_broken)
        self.report.drop(table.n_broken, "with another number of cells than the header")
        self.kept = np.arange(table.n_rows)
        self._added: dict[str, Column] = {}
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._units: dict[str, float] = {}
        self.of_samples = self.columns.positions.of_samples
        for name in (*options.groups, *options.keep, options.split_by, self._weight_column):
            if name is not None and name not in table.columns:
                raise UserError(
                    f"{table.path} has no column {name!r}, which gaze.json names; it has "
                    f"{', '.join(map(repr, table.columns))}"
                )

    @property
    def _weight_column(self) -> str | None:
        weights = self.options.weights
        return None if weights in (None, "duration") else weights

    # ---- columns ------------------------------------------------------------------------
    def numbers(self, role: str) -> NDArray[np.float64] | None:
        """Return the kept values of a column as numbers."""
        name = self.columns.get(role)
        return None if name is None else self.numbers_of(name)

    def numbers_of(self, name: str) -> NDArray[np.float64]:
        """Return the kept values of a column by its name, as numbers."""
        if name not in self._numbers:
            self._numbers[name] = np.full(self.table.n_rows, np.nan)
            values = self.table.columns[name][self.kept]
            self._numbers[name][self.kept] = to_numbers(values, name, self.table.path)
        return self._numbers[name][self.kept]

    def text(self, role: str) -> NDArray[np.object_] | None:
        """Return the kept values of a column as text."""
        name = self.columns.get(role)
        return None if name is None else self.named(name)

    def named(self, name: str) -> NDArray[np.object_]:
        """Return the kept values of a column by its name, as text."""
        return to_text(self.table.columns[name][self.kept])

    def add(self, name: str, values: Column) -> None:
        """Add a column that is made from the kept rows."""
        whole = np.empty(self.table.n_rows, values.dtype)
        whole[self.kept] = values
        self._added[name] = whole

    @property
    def names_added(self) -> list[str]:
        """The names of the columns that were added."""
        return list(self._added)

    def added(self, name: str) -> Column:
        """Return the kept values of a column that was added."""
        return self._added[name][self.kept]

    def drop(self, unwanted: NDArray[np.bool_], reason: str) -> None:
        """Drop rows and count them."""
        self.report.drop(int(unwanted.sum()), reason)
        self.kept = self.kept[~unwanted]

    # ---- what is no fixation ------------------------------------------------------------
    def keep_wanted(self) -> None:
        """Drop the rows that `keep` in the options leaves out."""
        for name, values in self.options.keep.items():
            wanted = {str(v) for v in (values if isinstance(values, list | tuple) else (values,))}
            self.drop(np.array([v not in wanted for v in self.named(name)], bool), f"by {name!r}")

    def drop_other_events(self) -> None:
        """Drop saccades, blinks and messages, if a column tells them from fixations."""
        event = self.text("event")
        if event is None:
            return
        words = {word: simple(word) for word in set(event.tolist())}
        is_fixation = {w for w, s in words.items() if s.startswith(FIXATION_WORDS)}
        is_other = {w for w, s in words.items() if s.startswith(OTHER_EVENTS)}
        if is_fixation:
            unwanted = np.array([word not in is_fixation for word in event.tolist()], bool)
        else:
            unwanted = np.array([word in is_other for word in event.tolist()], bool)
        self.drop(unwanted, "of saccades, blinks and other events")

    def drop_doubtful(self) -> None:
        """Drop rows that the eye tracker does not trust, or that it saw beside the stimulus."""
        confidence = self.numbers("confidence")
        if confidence is not None:
            least = self.options.min_confidence
            self.drop(np.asarray(confidence < least), f"with a confidence below {least:g}")
        on_stimulus = self.text("on_stimulus")
        if on_stimulus is not None:
            beside = [word.lower() in ("false", "0", "no") for word in on_stimulus.tolist()]
            self.drop(np.array(beside, bool), "beside the stimulus, by the eye tracker")

    def merge_samples(self) -> None:
        """Keep one row of each fixation, if it is repeated for all of its samples."""
        ids = self.text("fixation_id")
        if ids is None or self.of_samples or not len(ids):
            return
        same = np.ones(len(ids) - 1, dtype=bool)
        for role in ("fixation_id", "stimulus", "observer", "trial", "x", "y"):
            values = self.text(role)
            if values is not None:
                same &= values[1:] == values[:-1]
        self.drop(np.append(False, same), "that repeat a fixation, sample by sample")

    # ---- positions ----------------------------------------------------------------------
    def positions(self) -> NDArray[np.float64]:
        """Return the positions as the table has them, `[n, 2]` (x, y)."""
        x, y = self.columns.get("x"), self.columns.get("y")
        assert x is not None and y is not None
        if x == y:
            return _pairs(self.table.columns[x][self.kept])
        xy = [self.numbers("x"), self.numbers("y")]
        return np.stack([v for v in xy if v is not None], axis=1).reshape(-1, 2)

    def drop_without_position(self) -> None:
        """Drop rows that have no position: blinks."""
        xy = self.positions()
        self.drop(~np.isfinite(xy.sum(axis=1)), "without a position (blinks)")

    # ---- times --------------------------------------------------------------------------
    def milliseconds(self, role: str) -> NDArray[np.float64]:
        """Return a column of times in milliseconds; NaN if there is none."""
        values = self.numbers(role)
        if values is None:
            return np.full(len(self.kept), np.nan)
        unit = self.options.time_unit
        if unit is not None:
            return values * MILLISECONDS[unit]
        told = self.columns.milliseconds(role)
        return values * (self._guessed_unit(role) if told is None else told)

    def _guessed_unit(self, role: str) -> float:
        """Return 1000 if times whose unit is not known can only be seconds, else 1.

        It is looked for once, in the rows that are there at first.
        """
        if role not in self._units:
            values = self.numbers(role)
            known = values[np.isfinite(values)] if values is not None else np.empty(0)
            is_fraction = bool(len(known)) and bool((known != np.round(known)).any())
            if role == "duration_ms":
                in_seconds = is_fraction and float(np.median(known)) < SHORTEST_FIXATION_MS
            else:
                in_seconds = is_fraction and float(np.abs(known).max()) < SHORTEST_TABLE_MS
            self._units[role] = 1e3 if in_seconds else 1.0
            if in_seconds:
                name = self.columns.get(role)
                self.report.assumed.append(f"the column {name!r} is taken as seconds")
        return self._units[role]

    def durations(self) -> NDArray[np.float64]:
        """Return the durations in milliseconds; NaN if they are not known."""
        if self.columns.get("duration_ms") is not None and not self.of_samples:
            return self.milliseconds("duration_ms")
        if self.columns.get("end_ms") is not None and not self.of_samples:
            return self.milliseconds("end_ms") - self.milliseconds("start_ms")
        return np.full(len(self.kept), np.nan)

    def drop_without_duration(self) -> None:
        """Drop fixations that took no time."""
        with np.errstate(invalid="ignore"):
            self.drop(self.durations() <= 0, "with a duration of 0 or less")


def _pairs(values: Column) -> NDArray[np.float64]:
    """Return positions of a column that holds pairs, as lists or as text, `[n, 2]`."""
    xy = np.full((len(values), 2), np.nan)
    for i, value in enumerate(values.tolist()):
        if isinstance(value, str):
            found: Sequence[Any] = re.findall(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?", value)
        else:
            found = [] if value is None else list(value)
        if len(found) == 2:
            xy[i] = [math.nan if v is None else float(v) for v in found]
    return xy


# ---- on the stimulus ------------------------------------------------------------------------
def to_stimulus(
    xy: NDArray[np.float64],
    sizes: NDArray[np.float64],
    rows: Rows,
) -> NDArray[np.float64]:
    """Convert positions to pixels of the stimuli, 0 being the middle of the first one.

    Args:
        xy: the positions as the table has them, `[n, 2]` (x, y).
        sizes: the size of the stimulus of each, `[n, 2]` (width, height).
        rows: their options, and the report of what was assumed.

    Returns:
        `[n, 2]` (x, y).
    """
    options, told = rows.options, rows.columns.positions
    screen = options.screen
    on_screen = screen is not None and options.placement is not None
    area = np.array([[screen.width_px, screen.height_px]]) if screen and on_screen else sizes
    units = options.units or told.units or _guess_units(xy, sizes, rows.report)
    origin = options.origin or ("bottom" if units == "degrees" else told.origin)
    if units == "share":
        xy = xy * area - 0.5
    elif units == "degrees":
        xy = _from_degrees(xy, options) + area / 2 - 0.5
    elif units == "pixels_from_1":
        xy = xy - 1
    if origin == "bottom":
        xy = np.stack([xy[:, 0], area[:, 1] - 1 - xy[:, 1]], axis=1)
    if on_screen:
        left_top, scale = placed(options, sizes)
        xy = (xy + 0.5 - left_top) / scale - 0.5
    elif units == "pixels" and options.units is None and from_one(xy, sizes):
        xy = xy - 1
        rows.report.changed.append(
            "positions are counted from 1 (some equal the width or height, none lies before 1): "
            "1 was subtracted"
        )
    return xy


def from_one(xy: NDArray[np.float64], sizes: NDArray[np.float64]) -> bool:
    """Return whether pixels are counted from 1: some are at the right border, none at 0.

    Args:
        xy: positions in pixels of the stimulus, `[n, 2]` (x, y).
        sizes: the size of the stimulus of each, `[n, 2]` (width, height).
    """
    beyond = (xy > sizes) & (xy <= sizes + NEAR_BORDER)  # where gaze off the stimulus goes on
    return bool((xy == sizes).any() and not (((xy >= 0) & (xy < 1)) | beyond).any())


def placed(
    options: GazeOptions, sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where stimuli were on the screen.

    Args:
        options: say so.
        sizes: those of the stimuli, `[n, 2]` (width, height).

    Returns:
        The (left, top) in pixels of the screen, and the pixels of the screen per pixel of the
        stimulus (horizontally, vertically), `[n, 2]` each.
    """
    screen, place = options.screen, options.placement
    assert screen is not None
    area = np.array([[screen.width_px, screen.height_px]])
    if place == "stretched":
        scale = area / sizes
    elif place == "fitted":
        scale = (area / sizes).min(axis=1, keepdims=True) * np.ones((1, 2))
    elif place == "centred":
        scale = np.ones_like(sizes)
    else:
        assert place is not None and not isinstance(place, str)
        left, top, width, height = place
        scale = np.array([[width, height]]) / sizes
        return np.broadcast_to(np.array([[left, top]], float), sizes.shape), scale
    return (area - sizes * scale) / 2, scale


def _guess_units(xy: NDArray[np.float64], sizes: NDArray[np.float64], report: GazeReport) -> str:
    """Return "share" if nearly all positions lie between 0 and 1, else "pixels"."""
    if not len(xy) or sizes.min() < 2:
        return "pixels"
    inside = ((xy >= 0) & (xy <= 1)).all(axis=1).mean()
    if inside >= MOST and np.abs(xy).max() <= MAX_SHARE:
        report.assumed.append(
            "positions lie between 0 and 1: they are taken as shares of width and height"
        )
        return "share"
    return "pixels"


def _from_degrees(xy: NDArray[np.float64], options: GazeOptions) -> NDArray[np.float64]:
    """Convert degrees from the middle to pixels from the middle."""
    screen = options.screen
    if options.pixels_per_degree is None and screen and screen.distance_cm and screen.width_cm:
        return np.tan(np.radians(xy)) * screen.distance_cm * screen.pixels_per_cm
    per_degree = options.degree_in_pixels
    if per_degree is None:
        raise UserError(
            "positions are in degrees: gaze.json has to say pixels_per_degree, or the screen with "
            "width_px, height_px, width_cm and distance_cm"
        )
    return xy * per_degree


# ---- frames ---------------------------------------------------------------------------------
def frames_of(
    rows: Rows, stimulus: NDArray[np.int64], films: Sequence[Film], start_ms: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Find the frames of films that fixations count for.

    Args:
        rows: the rows.
        stimulus: the film of each.
        films: the films.
        start_ms: when they start, in milliseconds after the start of the film.

    Returns:
        The first and the last frame of each, from 0, `[n, 2]`; the last one is before the first
        where there is none.

    Raises:
        UserError: the table has neither frames nor times.
    """
    n_frames = np.array([film.n_frames for film in films])[stimulus]
    number = rows.numbers("frame")
    if number is not None and np.isfinite(number).any():
        first = _first_number(rows, number, n_frames)
        frame = np.where(np.isfinite(number), np.floor(number), -1e6).astype(np.int64) - first
        spans = np.stack([frame, frame], axis=1)
    elif np.isfinite(start_ms).any():
        spans = _frames_by_time(rows, stimulus, films, start_ms)
    else:
        raise UserError(
            f"{rows.table.path} has neither frames nor times, which gaze at films needs; name "
            'their columns in gaze.json: {"columns": {"frame": "..."}} or {"start_ms": "..."}'
        )
    outside = (spans[:, 1] < 0) | (spans[:, 0] >= n_frames) | (spans[:, 1] < spans[:, 0])
    window = rows.options.frame_window
    spans = np.stack(
        [np.maximum(spans[:, 0] - window, 0), np.minimum(spans[:, 1] + window, n_frames - 1)], 1
    )
    spans[outside] = 0, NO_FRAME
    return spans


def _first_number(rows: Rows, number: NDArray[np.float64], n_frames: NDArray[np.int64]) -> int:
    """Return the number of a film's first frame, 0 or 1."""
    if rows.options.frames_from is not None:
        return rows.options.frames_from
    known = np.isfinite(number)
    from_one = bool((number[known] == n_frames[known]).any() and not (number[known] == 0).any())
    rows.report.assumed.append(
        "frames are counted from 1 (one has the number of the last frame, none is 0)"
        if from_one
        else "frames are counted from 0"
    )
    return int(from_one)


def _frames_by_time(
    rows: Rows, stimulus: NDArray[np.int64], films: Sequence[Film], start_ms: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the frames that are shown during each fixation, or at the moment of each sample."""
    duration = np.nan_to_num(rows.durations(), nan=0.0)
    spans = np.full((len(stimulus), 2), (0, NO_FRAME))
    for index, film in enumerate(films):
        of_film = np.flatnonzero((stimulus == index) & np.isfinite(start_ms))
        start = start_ms[of_film] / 1000
        spans[of_film] = film.shown(start, start + duration[of_film] / 1000)
    return spans


# ---- times ----------------------------------------------------------------------------------
def start_times(
    rows: Rows, stimulus: NDArray[np.int64], observer: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return when fixations start, in milliseconds after the start of the stimulus; else NaN.

    Where a table has only durations, in the order of time, the start is the sum of the durations
    before: without the saccades, a little early.
    """
    start = rows.milliseconds("start_ms")
    zero = rows.options.time_zero
    if np.isfinite(start).any():
        if zero == "first" or (zero is None and rows.columns.on_recording_clock):
            trial = trials(rows, stimulus, observer)
            first = np.full(trial.max(initial=-1) + 1, np.inf)
            np.minimum.at(first, trial, np.where(np.isfinite(start), start, np.inf))
            start = start - first[trial]
            if zero is None:
                rows.report.assumed.append(
                    "times are those of the recording: the first row of a person with a stimulus "
                    "is taken as its start"
                )
        return start
    duration = rows.durations()
    if not np.isfinite(duration).any():
        return start
    rows.report.assumed.append(
        "no times of fixations: the start of each is taken as the sum of the durations before it"
    )
    return _sums_before(np.nan_to_num(duration), trials(rows, stimulus, observer))


def trials(
    rows: Rows, stimulus: NDArray[np.int64], observer: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return a number for each row that is the same for one person with one stimulus."""
    trial = rows.text("trial")
    return joint_codes([stimulus, observer, *([] if trial is None else [trial])])


def _sums_before(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each value the sum of those before it in its group."""
    order = np.argsort(group, kind="stable")
    total = np.cumsum(values[order]) - values[order]
    starts = np.append(True, np.diff(group[order]) != 0)
    before = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    sums = np.empty_like(total)
    sums[order] = total - total[before]
    return sums


def is_sampled(
    start_ms: NDArray[np.float64], duration_ms: NDArray[np.float64], trial: NDArray[np.int64]
) -> bool:
    """Return whether rows are samples of gaze: without durations, close upon each other."""
    if np.isfinite(duration_ms).any() or not np.isfinite(start_ms).any():
        return False
    order = np.lexsort((start_ms, trial))
    step = np.diff(start_ms[order])[np.diff(trial[order]) == 0]
    step = step[step > 0]
    return bool(len(step) and np.median(step) < MAX_SAMPLE_MS)


def duplicates(columns: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Return which rows repeat an earlier one, `[n]`."""
    _, first = np.unique(joint_codes(columns), return_index=True)
    repeated = np.ones(len(columns[0]), dtype=bool)
    repeated[first] = False
    return repeated


def sizes_of(stimulus: NDArray[np.int64], sizes: Sequence[Size]) -> NDArray[np.float64]:
    """Return the (width, height) of the stimulus of each row, `[n, 2]`."""
    return np.array([(w, h) for h, w in sizes], dtype=np.float64).reshape(-1, 2)[stimulus]
