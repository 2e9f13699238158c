"""Fixations or samples of gaze as arrays, and the choice of some of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.types import Size

Window = tuple[float, float]
"""From (inclusive) and to (exclusive)."""


@dataclass(frozen=True)
class Fixations:
    """Fixations, or samples of gaze, one for each place of the arrays, which are of one length.

    They are sorted by stimulus, then observer, then time.
    """

    stimulus: NDArray[np.int64]
    """Index of the stimulus."""
    observer: NDArray[np.int64]
    """Index of the observer; 0 if the table does not tell them apart."""
    x: NDArray[np.float64]
    """Pixels of the stimulus from the left; 0 is the middle of the first one."""
    y: NDArray[np.float64]
    """The same from the top."""
    start_ms: NDArray[np.float64]
    """From the start of the stimulus; NaN if it is not known."""
    duration_ms: NDArray[np.float64]
    """NaN if it is not known."""
    first_frame: NDArray[np.int64]
    """Of films: the first frame that it counts for, from 0."""
    last_frame: NDArray[np.int64]
    """Of films: the last one."""
    number: NDArray[np.int64]
    """Its number in the order of time, from 1, for this observer and stimulus."""
    weight: NDArray[np.float64]
    groups: Mapping[str, NDArray[np.object_]]
    """The values of the columns of groups, as text."""

    def __len__(self) -> int:
        return len(self.x)

    def take(self, chosen: Any) -> Fixations:
        """Return some of them.

        Args:
            chosen: a slice, indices or a mask.
        """
        arrays = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "groups"}
        groups = {name: values[chosen] for name, values in self.groups.items()}
        return replace(self, **arrays, groups=groups)

    def choose(
        self,
        observers: Collection[int] | None = None,
        window_ms: Window | None = None,
        numbers: Collection[int] | None = None,
        groups: Mapping[str, str | Sequence[str]] | None = None,
        frame: int | None = None,
    ) -> Fixations:
        """Return those that fit everything that is given.

        Args:
            observers: indices of observers.
            window_ms: from and to, in milliseconds after the start of the stimulus, to which the
                start of a fixation has to belong.
            numbers: numbers in the order of time, from 1.
            groups: values by the column of the groups.
            frame: a frame of a film, from 0.
        """
        fits = np.ones(len(self), dtype=bool)
        if observers is not None:
            fits &= np.isin(self.observer, list(observers))
        if window_ms is not None:
            fits &= (self.start_ms >= window_ms[0]) & (self.start_ms < window_ms[1])
        if numbers is not None:
            fits &= np.isin(self.number, list(numbers))
        for name, values in (groups or {}).items():
            wanted = {values} if isinstance(values, str) else set(values)
            fits &= np.array([v in wanted for v in self.groups[name].tolist()], dtype=bool)
        if frame is not None:
            fits &= (self.first_frame <= frame) & (frame <= self.last_frame)
        return self.take(fits)

    def resized(self, own: Size, size: Size) -> Fixations:
        """Return them in the pixels of a stimulus of another size.

        Args:
            own: (height, width) of the stimulus whose pixels they are in.
            size: (height, width) of the other one.
        """
        if own == size:
            return self
        x = (self.x + 0.5) * size[1] / own[1] - 0.5
        return replace(self, x=x, y=(self.y + 0.5) * size[0] / own[0] - 0.5)


def joined(parts: Sequence[Fixations]) -> Fixations:
    """Return the fixations of several parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    names = [f.name for f in fields(Fixations) if f.name != "groups"]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    groups = {n: np.concatenate([part.groups[n] for part in parts]) for n in parts[0].groups}
    return Fixations(**arrays, groups=groups)
