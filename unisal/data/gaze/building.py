"""Fixations in pixels of the stimuli, made from the rows of a table step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unisal.data.gaze.film import Film
from unisal.data.gaze.fixations import Fixations
from unisal.data.gaze.rows import (
    NO_FRAME,
    Rows,
    duplicates,
    frames_of,
    is_sampled,
    sizes_of,
    start_times,
    to_stimulus,
    trials,
)
from unisal.errors import UserError
from unisal.files import natural_order
from unisal.types import Size

MANY, FEW = 0.02, 0.25
"""If more than this share of rows lies off the stimulus, and less than this part of them would if x
and y were exchanged, they may be."""


def make_fixations(
    rows: Rows, sizes: Sequence[Size], films: Sequence[Film]
) -> tuple[Fixations, tuple[str, ...]]:
    """Make fixations from rows whose column `stimulus` has been added.

    What is dropped, changed and assumed is noted in the report of the rows.

    Args:
        rows: the rows.
        sizes: (height, width) of each stimulus.
        films: the films; none for pictures.

    Returns:
        The fixations, sorted by stimulus, observer and time, and the names of the observers.

    Raises:
        UserError: a value is not a number, or something is missing that films or units need.
    """
    observers = _add_observers(rows)
    _add_times(rows)
    rows.drop_other_events()
    rows.drop_doubtful()
    rows.drop_without_position()
    rows.merge_samples()
    rows.drop_without_duration()
    _add_positions(rows, sizes)
    outside = _outside(rows, sizes)
    rows.drop(outside, "off the stimulus")
    if films:
        spans = frames_of(rows, rows.added("stimulus"), films, rows.added("start"))
        rows.add("first_frame", spans[:, 0])
        rows.add("last_frame", spans[:, 1])
        rows.drop(spans[:, 1] == NO_FRAME, "outside the time of the film")
    _drop_duplicates(rows)
    rows.report.n_kept = len(rows.kept)
    return _gathered(rows), observers


def _add_observers(rows: Rows) -> tuple[str, ...]:
    """Give the observers numbers."""
    names = rows.text("observer")
    if names is None:
        rows.add("observer", np.zeros(len(rows.kept), np.int64))
        return ()
    known = sorted(set(names.tolist()), key=natural_order)
    number = {name: i for i, name in enumerate(known)}
    rows.add("observer", np.array([number[name] for name in names.tolist()], np.int64))
    return tuple(known)


def _add_times(rows: Rows) -> None:
    """Find when each row starts, before rows between fixations are dropped."""
    stimulus, observer = rows.added("stimulus"), rows.added("observer")
    start = start_times(rows, stimulus, observer)
    rows.add("start", start)
    trial = trials(rows, stimulus, observer)
    rows.of_samples = rows.of_samples or is_sampled(start, rows.durations(), trial)


def _add_positions(rows: Rows, sizes: Sequence[Size]) -> None:
    """Convert the positions to pixels of the stimuli."""
    xy = to_stimulus(rows.positions(), sizes_of(rows.added("stimulus"), sizes), rows)
    rows.add("x", xy[:, 0])
    rows.add("y", xy[:, 1])


def _outside(rows: Rows, sizes: Sequence[Size]) -> NDArray[np.bool_]:
    """Return which rows lie off the stimulus: their pixel, floor(x + 0.5), is none of it."""
    xy = np.floor(np.stack([rows.added("x"), rows.added("y")], axis=1) + 0.5)
    size = sizes_of(rows.added("stimulus"), sizes)
    outside, exchanged = (
        (where[:, 0] < 0) | (where[:, 1] < 0) | (where >= size)[:, 0] | (where >= size)[:, 1]
        for where in (xy, xy[:, ::-1])
    )
    if outside.sum() > MANY * len(xy) and exchanged.sum() < FEW * outside.sum():
        rows.report.assumed.append(
            f"x and y may be exchanged: of {len(xy):,} rows {outside.sum():,} lie off the "
            f"stimulus, the other way round {exchanged.sum():,} would"
        )
    return outside


def _drop_duplicates(rows: Rows) -> None:
    """Drop rows that repeat another one in everything that is known of a fixation.

    Only if the person or the time is known, and it is not a frame's number alone: otherwise equal
    rows may well be two looks at the same place.
    """
    by_frame_alone = (
        rows.columns.get("frame") is not None and not np.isfinite(rows.added("start")).any()
    )
    start = rows.milliseconds("start_ms")
    known = rows.columns.get("observer") is not None or np.isfinite(start).any()
    if by_frame_alone or not known:
        return
    added = [rows.added(name) for name in ("stimulus", "observer", "x", "y")]
    rows.drop(duplicates([*added, start, rows.durations()]), "that repeat another row")


def _gathered(rows: Rows) -> Fixations:
    """Gather the columns, sorted, with the numbers in the order of time."""
    stimulus, observer, start = (rows.added(n) for n in ("stimulus", "observer", "start"))
    is_film = "first_frame" in rows.names_added
    frames = [
        rows.added(name) if is_film else np.zeros(len(start), np.int64)
        for name in ("first_frame", "last_frame")
    ]
    time = np.where(np.isfinite(start), start, 0.0)
    order = np.lexsort((time, frames[0], observer, stimulus))
    together = np.stack([stimulus, observer], axis=1)[order]
    begins = np.append(True, (np.diff(together, axis=0) != 0).any(axis=1))[: len(order)]
    place = np.arange(len(order))
    first = np.maximum.accumulate(np.where(begins, place, 0)) if len(order) else place
    fixations = Fixations(
        stimulus=stimulus,
        observer=observer,
        x=rows.added("x"),
        y=rows.added("y"),
        start_ms=start,
        duration_ms=rows.durations(),
        first_frame=frames[0],
        last_frame=frames[1],
        number=np.zeros(len(start), np.int64),
        weight=_weights(rows),
        groups={name: rows.named(name) for name in rows.options.groups},
    ).take(order)
    fixations.number[:] = place - first + 1
    return fixations


def _weights(rows: Rows) -> NDArray[np.float64]:
    """Return what each fixation counts."""
    by = rows.options.weights
    if by is None:
        return np.ones(len(rows.kept))
    values = rows.durations() if by == "duration" else rows.numbers_of(by)
    if not np.isfinite(values).all() or (values < 0).any():
        raise UserError(
            f"{rows.table.path}: weights by {by!r} have to be numbers of at least 0 in every row"
        )
    return values
