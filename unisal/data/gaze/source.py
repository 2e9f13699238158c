"""What folders of gaze data share as data sets, whether they hold pictures or films."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count
from unisal.data.base import SaliencyDataset, first_share
from unisal.data.gaze.fixations import Fixations, Window
from unisal.data.gaze.maps import MapCache, density_map, fixation_map, pixels
from unisal.data.gaze.parts import PART_OF_PHASE, TEST
from unisal.data.gaze.reading import GazeData, load_gaze
from unisal.data.listing import FrameFiles, Group
from unisal.data.splits import shuffled
from unisal.data.transforms import normalise_map
from unisal.errors import UserError
from unisal.progress import SILENT, Progress
from unisal.types import Size

ALL = "all"
"""The part of the phase "test" where no test part is named."""

log = logging.getLogger(__name__)


class GazeSource(SaliencyDataset):
    """A folder of stimuli with a table of where people looked.

    `unisal.data.gaze.gaze_source` makes a class of a folder. Nothing is written to the folder.

    Args:
        phase: "train"; "valid" and "eval" (the validation part); "test" (the test part if there is
            one, else all stimuli).
        subset: see `SaliencyDataset`.
        n_x_val: the number of folds, see `Splits.part`.
        x_val_step: the fold that is the validation part; None: as `splits.json` says, else fold 0.
        x_val_seed: seed of the shuffle before the folds.
        train_stimuli: what to train on of the training part: names of stimuli, or how many, drawn
            by `x_val_seed`; None for all.
        train_observers: likewise whose gaze to train on. Validation and scores take everybody's.
        gaze: entries that replace those of the folder's `gaze.json`. Those that the class was made
            with come before them.
        fingerprint: the content that a run was trained on; a warning says if it is another now.
        augment: see `SaliencyDataset`.
        seed: see `SaliencyDataset`.
        verbose: see `SaliencyDataset`.
        progress: shows the progress of the first look at the stimuli.

    Attributes:
        data: the folder as it was read.
        chosen: the indices of the examples' stimuli in `data`.

    Raises:
        UserError: the folder cannot be read, or the part has no stimuli that people looked at.
    """

    place: ClassVar[Path]
    """The folder, or the `gaze.json` that describes it."""
    changes: ClassVar[Mapping[str, Any]] = {}
    """Entries that replace those of the `gaze.json`."""
    root_variable = ""
    root_default = ""
    scored_by_default = False
    scored_in_detail = True
    validates_all = True
    trains_all = True
    predicted_phases = ("test", "eval")

    def __init__(
        self,
        phase: str,
        subset: float,
        n_x_val: int,
        x_val_step: int | None,
        x_val_seed: int | None,
        train_stimuli: Sequence[str] | int | None,
        train_observers: Sequence[str] | int | None,
        gaze: Mapping[str, Any] | None,
        fingerprint: str | None,
        augment: bool | Mapping[str, Any],
        seed: int | Sequence[int],
        verbose: int,
        progress: Progress,
        **own: Any,
    ) -> None:
        self.data = self.read(gaze, progress)
        found = self.data.fingerprint_hash()
        if fingerprint is not None and fingerprint != found:
            log.warning(
                "%s: %s is not the data that the run was trained on", self.source, self.place
            )
        folds = {"n_x_val": n_x_val, "x_val_step": x_val_step, "x_val_seed": x_val_seed}
        train = {"train_stimuli": train_stimuli, "train_observers": train_observers}
        kept = {"gaze": {**(gaze or {}), **self.changes} or None, "fingerprint": found}
        super().__init__(phase, subset, augment, seed, verbose, **own, **folds, **train, **kept)
        part = self.data.splits.part(phase, n_x_val, x_val_step, x_val_seed)
        self.has_maps = phase != "test" or TEST in self.data.splits.named
        if self.has_maps:
            looked_at = np.diff(self.data.first) > 0
            part = [index for index in part if looked_at[index]]
        self._train_observers: tuple[int, ...] | None = None
        if phase == "train":
            part = self._only_stimuli(part, train_stimuli, x_val_seed)
            self._train_observers = self._only_observers(train_observers, x_val_seed)
        self.chosen = first_share(part, subset)
        if not self.chosen:
            raise UserError(
                f"{self.source}'s {phase} part has no stimuli that people looked at: "
                f"{len(self.data.stimuli)} are in {self.data.place.stimuli}, subset={subset}"
            )
        self._maps = MapCache()

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made for the folder, so another process has to make it again.
        from unisal.data.gaze import gaze_source

        kind = type(self)
        domain = kind.domain if kind.names_domain else None
        make = kind.source, self.place, domain, dict(self.changes)
        return _restored, (gaze_source, make, vars(self))

    # ---- the folder -----------------------------------------------------------------------
    @classmethod
    def read(cls, gaze: Mapping[str, Any] | None = None, progress: Progress = SILENT) -> GazeData:
        """Return the folder as it was read, see `load_gaze`."""
        return load_gaze(cls.place, {**(gaze or {}), **cls.changes}, progress)

    @classmethod
    def root(cls) -> Path:
        return cls.read().place.folder

    @classmethod
    def is_there(cls) -> bool:
        return cls.place.exists()

    @classmethod
    def part(cls, phase: str) -> str:
        part = PART_OF_PHASE[phase]
        return ALL if part == TEST and TEST not in cls.read().splits.named else part

    @classmethod
    def list_part(cls, phase: str) -> Iterator[Group]:
        data = cls.read()
        chosen = data.splits.part(phase)
        if data.is_video:
            for index in chosen:
                frames = [FrameFiles(path) for path in data.films[index].pictures]
                yield Group(data.name(index), frames, one_image_size=True)
        else:
            yield Group(cls.part(phase), [FrameFiles(data.stimuli[index]) for index in chosen])

    # ---- who looked, and when -------------------------------------------------------------
    @property
    def observers(self) -> tuple[str, ...]:
        """The names of the observers; none if the table does not tell them apart."""
        return self.data.observers

    @property
    def groups(self) -> dict[str, list[str]]:
        """The values of each column of groups that `gaze.json` names, sorted."""
        groups = self.data.fixations.groups
        return {name: sorted(set(values.tolist())) for name, values in groups.items()}

    def read_gaze(self, index: int, number: int | None = None) -> Fixations | None:
        own, size = self.frame_size(index), self.target_size(index)
        return self.fixations(index, number).resized(own, size)

    def fixations(
        self,
        index: int,
        number: int | None = None,
        *,
        observers: Sequence[str] | None = None,
        window_ms: Window | None = None,
        fixation_numbers: Sequence[int] | None = None,
        groups: Mapping[str, str | Sequence[str]] | None = None,
    ) -> Fixations:
        """Return fixations on a stimulus, those that fit everything that is given.

        Args:
            index: index of the picture or film in this part.
            number: of a film: the number of the frame, from 1; None for all frames.
            observers: whose.
            window_ms: (from, to) in milliseconds after the start of the stimulus, for their starts.
            fixation_numbers: first, second, ... fixation of a person on the stimulus, from 1.
            groups: values by the column of the groups: {"condition": "search"}.

        Raises:
            UserError: there is no such observer or group; lists those that exist.
        """
        found = self.data.of(self.chosen[index]).choose(
            observers=None if observers is None else self._observer_numbers(observers),
            window_ms=window_ms,
            numbers=fixation_numbers,
            groups=self._checked_groups(groups),
        )
        return self._on_frame(index, number, found)

    def _on_frame(self, index: int, number: int | None, found: Fixations) -> Fixations:
        """Return which of a stimulus's fixations are on a frame; of None, on all of them."""
        if number is None or not self.is_video:
            return found
        return found.choose(frame=number - 1)

    def density(
        self, index: int, size: Size | None = None, number: int | None = None, **chosen: Any
    ) -> NDArray[np.float32]:
        """Return the density of fixations, those that fit everything that is given.

        Args:
            index: index of the picture or film in this part.
            size: (height, width) of the result; None for that of the stimulus.
            number: of a film: the number of the frame, from 1; None for all frames.
            chosen: see `fixations`.

        Returns:
            `[h, w] float32` with sum 1, all zero if no fixation fits.
        """
        size = size or self.frame_size(index)
        key = "density", index, size, number, _hashable(chosen)
        return self._maps.get(
            key, lambda: self._density(index, size, self.fixations(index, number, **chosen))
        )

    def fixation_map(
        self, index: int, size: Size | None = None, number: int | None = None, **chosen: Any
    ) -> NDArray[np.bool_]:
        """Return the fixated pixels, of the fixations that fit everything that is given.

        Args:
            index: see `density`.
            size: see `density`.
            number: see `density`.
            chosen: see `fixations`.

        Returns:
            `[h, w] bool`.
        """
        found = self.fixations(index, number, **chosen)
        return fixation_map(found, self.frame_size(index), size or self.frame_size(index))

    def middle(self, index: int) -> int:
        """Return the number of the frame nearest to a film's middle that someone looked at.

        It is 1 for a picture, and the middle of a film that nobody looked at.
        """
        half = (1 + self.lengths()[index]) // 2
        numbers = sorted(range(1, 2 * half), key=lambda number: abs(number - half))
        return next((n for n in numbers if self.is_looked_at(index, n)), half)

    def blur(self, index: int) -> tuple[float, float]:
        own, size = self.frame_size(index), self.target_size(index)
        vertical, horizontal = self.data.blur(self.chosen[index])
        return vertical * (size[0] / own[0]), horizontal * (size[1] / own[1])

    # ---- as other sources -----------------------------------------------------------------
    def __len__(self) -> int:
        return len(self.chosen)

    def title(self, index: int) -> str:
        return self.data.name(self.chosen[index])

    def name(self, index: int) -> str:
        return self.title(index)

    @cached_property
    def prediction_names(self) -> list[str]:
        """The names of the predictions: those of the stimuli without ending, if that is enough."""
        titles = [self.data.name(index) for index in self.chosen]
        bare = [
            title if self.data.stimuli[index].is_dir() else str(Path(title).with_suffix(""))
            for title, index in zip(titles, self.chosen, strict=True)
        ]
        n_uses = Counter(bare)
        return [b if n_uses[b] == 1 else t for b, t in zip(bare, titles, strict=True)]

    def frame_size(self, index: int) -> Size:
        return self.data.sizes[self.chosen[index]]

    def target_size(self, index: int) -> Size:
        return self.frame_size(index)

    def read_density(self, index: int, number: int = 1) -> NDArray[np.float32]:
        return normalise_map(self.density(index, self.target_size(index), number))

    def read_fixation_map(self, index: int, number: int = 1) -> NDArray[np.bool_]:
        return self.fixation_map(index, self.target_size(index), number)

    def read_observers(self, index: int) -> list[NDArray[np.float64]] | None:
        if not self.observers or self.is_video:
            return None
        found, size = self.fixations(index), self.target_size(index)
        yx = pixels(found, self.frame_size(index), size).astype(np.float64)
        return [yx[found.observer == who, ::-1] for who in np.unique(found.observer)]

    # ---- helpers --------------------------------------------------------------------------
    def _density(self, index: int, size: Size, fixations: Fixations) -> NDArray[np.float32]:
        blur = self._blur_of(index, fixations)
        return density_map(fixations, self.frame_size(index), size, blur)

    def _blur_of(self, index: int, fixations: Fixations) -> tuple[float, float]:
        """Return the blur that turns some fixations into a map, in pixels of the stimulus."""
        return self.data.blur(self.chosen[index])

    def _observer_numbers(self, names: Sequence[str]) -> list[int]:
        """Return the indices of observers."""
        number = {name: i for i, name in enumerate(self.observers)}
        if strange := [str(name) for name in names if str(name) not in number]:
            known = ", ".join(self.observers) or "none: the table does not tell them apart"
            raise UserError(
                f"{self.source} has no observer {', '.join(strange)}; there are {known}"
            )
        return [number[str(name)] for name in names]

    def _checked_groups(
        self, groups: Mapping[str, str | Sequence[str]] | None
    ) -> Mapping[str, str | Sequence[str]] | None:
        known = self.data.fixations.groups
        if strange := [name for name in groups or {} if name not in known]:
            raise UserError(
                f"{self.source} has no groups by {', '.join(strange)}; there are "
                f"{', '.join(known) or 'none'}; name columns as groups in gaze.json"
            )
        return groups

    def _only_stimuli(
        self, part: list[int], wanted: Sequence[str] | int | None, seed: int | None
    ) -> list[int]:
        """Return the stimuli of the training part that are trained on."""
        if wanted is None:
            return part
        if isinstance(wanted, int):
            check_count(wanted, "train_stimuli", 1, len(part))
            return sorted(shuffled(part, seed)[:wanted])
        names = {str(name) for name in wanted}
        of_name = {name: i for i in part for name in (self.data.name(i), self.data.stimuli[i].stem)}
        if strange := sorted(names - of_name.keys()):
            raise UserError(f"{self.source}'s training part has no {', '.join(strange[:5])}")
        return sorted({of_name[name] for name in names})

    def _only_observers(
        self, wanted: Sequence[str] | int | None, seed: int | None
    ) -> tuple[int, ...] | None:
        """Return the indices of the observers whose gaze is trained on; None for all."""
        if wanted is None:
            return None
        if isinstance(wanted, int):
            check_count(wanted, "train_observers", 1, len(self.observers))
            return tuple(shuffled(range(len(self.observers)), seed)[:wanted])
        return tuple(self._observer_numbers(wanted))

    def _trained_on(self, index: int) -> Fixations:
        """Return the fixations that an example of training or validation is made of."""
        return self.data.of(self.chosen[index]).choose(observers=self._train_observers)


def _restored(make: Any, arguments: tuple[Any, ...], state: dict[str, Any]) -> GazeSource:
    """Return a data set as it was in another process."""
    cls = make(*arguments)
    dataset = cls.__new__(cls)
    vars(dataset).update(state)
    return dataset


def _hashable(value: Any) -> Hashable:
    """Return a value as something that a dictionary can be searched for."""
    if isinstance(value, Mapping):
        return tuple(sorted((k, _hashable(v)) for k, v in value.items()))
    if isinstance(value, list | tuple | np.ndarray | range | set):
        return tuple(_hashable(v) for v in value)
    return value
