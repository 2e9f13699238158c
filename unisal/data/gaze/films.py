"""Films with a table of gaze as a data set."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count
from unisal.data.base import Item, check_size, one_of
from unisal.data.gaze.film import Film, FrameReader
from unisal.data.gaze.fixations import Fixations
from unisal.data.gaze.maps import fixation_map
from unisal.data.gaze.parts import N_PARTS, SEED
from unisal.data.gaze.source import GazeSource
from unisal.data.listing import FrameFiles
from unisal.data.tensors import stacked
from unisal.data.transforms import normalise, normalise_map, optimal_input_size, resize_rgb
from unisal.progress import SILENT, Progress
from unisal.types import RGB, Size

DIGITS = 6
"""The digits of a frame's number in the name of its prediction."""


class Clip(NamedTuple):
    """A part of a film: frames `start, start + step, ...`, from 1."""

    film: int
    """The number of the film in this part."""
    start: int | None
    """None: drawn again in each epoch."""


class GazeVideoFolder(GazeSource):
    """A folder of films with a table of where people looked; see `GazeSource`.

    Films are video files, or folders of frames in the order of their names. In the phases train and
    valid an example is a clip of `seq_len` frames, or fewer of a short film, every `frame_step`-th
    of the film; in eval and test it is one of the interleaved sequences of a whole film. In
    training a frame that nobody looked at takes the fixations that are nearest in time.

    Args:
        phase: see `GazeSource`.
        subset: see `SaliencyDataset`.
        seq_len: number of frames in a clip.
        frame_step: the distance in the film between the frames of a clip; None: the one that makes
            six frames a second of each film, as the GRU was trained.
        input_size: (height, width) of the network's input; None: the optimal one for each film.
        n_x_val: see `GazeSource`.
        x_val_step: see `GazeSource`.
        x_val_seed: see `GazeSource`.
        train_stimuli: see `GazeSource`.
        train_observers: see `GazeSource`.
        gaze: see `GazeSource`.
        fingerprint: see `GazeSource`.
        augment: see `SaliencyDataset`.
        seed: see `SaliencyDataset`.
        verbose: see `SaliencyDataset`.
        frame_modulo: the published name of `frame_step`.
        out_size: the published name of `input_size`.
        progress: see `GazeSource`.

    Raises:
        UserError: see `GazeSource`.
    """

    domain = "DHF1K"
    is_video = True
    batch_size = 4
    input_size: Size | None = None

    def __init__(
        self,
        phase: str = "train",
        subset: float = 1.0,
        seq_len: int = 12,
        frame_step: int | None = None,
        input_size: Size | None = None,
        n_x_val: int = N_PARTS,
        x_val_step: int | None = None,
        x_val_seed: int | None = SEED,
        train_stimuli: Sequence[str] | int | None = None,
        train_observers: Sequence[str] | int | None = None,
        gaze: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
        *,
        frame_modulo: int | None = None,
        out_size: Size | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.seq_len = check_count(seq_len, "seq_len")
        step = one_of("frame_step", frame_step, "frame_modulo", frame_modulo)
        self._step = None if step is None else check_count(step, "frame_step")
        input_size = one_of("input_size", input_size, "out_size", out_size)
        if input_size is not None:
            self.input_size = check_size(input_size, "input_size")
        super().__init__(
            phase,
            subset,
            n_x_val,
            x_val_step,
            x_val_seed,
            train_stimuli,
            train_observers,
            gaze,
            fingerprint,
            augment,
            seed,
            verbose,
            progress,
            seq_len=seq_len,
            frame_step=self._step,
            input_size=self.input_size,
        )
        self.films = self._list_films()
        self._frames = FrameReader(self.films)
        self.clips = [clip for film in range(len(self.films)) for clip in self._clips(film)]

    def _list_films(self) -> list[Film]:
        """Return the films of this part."""
        return [self.data.films[index] for index in self.chosen]

    # ---- clips --------------------------------------------------------------------------
    def frame_step_of(self, index: int) -> int:
        """Return the distance between the frames of a film that the GRU sees as neighbours."""
        if self._step is not None:
            return self._step
        rate = Fraction(self.films[index].rate).limit_denominator(1000)
        return max(1, floor(self.frame_step * rate / self.frame_rate + Fraction(1, 2)))

    def clip_frames(self, film: int) -> int:
        """Return the number of frames in the clips of a film."""
        n_frames, step = self.films[film].n_frames, self.frame_step_of(film)
        return min(self.seq_len, -(-n_frames // step))

    def _clips(self, film: int) -> list[Clip]:
        """Return the examples of a film."""
        if self.phase in ("eval", "test"):
            return [Clip(film, 1 + start) for start in range(self.frame_step_of(film))]
        if self.phase == "train":
            return [Clip(film, None)]
        return [Clip(film, 1 + self._latest_start(film) // 2)]

    def _latest_start(self, film: int) -> int:
        """Return the latest frame, from 0, at which a clip may start."""
        span = (self.clip_frames(film) - 1) * self.frame_step_of(film) + 1
        return self.films[film].n_frames - span

    def frame_numbers(self, index: int) -> list[int]:
        """Return the numbers of an example's frames in its film, from 1."""
        film, start = self.clips[index]
        n_frames, step = self.films[film].n_frames, self.frame_step_of(film)
        if self.phase in ("eval", "test"):
            assert start is not None
            return list(range(start, n_frames + 1, step))
        if start is None:
            start = 1 + int(self.rng(index).integers(0, self._latest_start(film), endpoint=True))
        return [start + i * step for i in range(self.clip_frames(film))]

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        film, start = self.clips[index]
        return f"{self.title(film)} from {start}" if start else self.title(film)

    def batch_group(self, index: int) -> Hashable:
        film = self.clips[index].film
        return self.input_size_for(film), self.clip_frames(film)

    def __getitem__(self, index: int) -> Item:
        film, numbers = self.clips[index].film, self.frame_numbers(index)
        frames = [self.read_picture(film, number) for number in numbers]
        own, input_size = self.frame_size(film), self.input_size_for(film)
        if not self.has_maps:
            resized = [normalise(resize_rgb(frame, input_size)) for frame in frames]
            return Item(numbers, stacked(resized), None, None, own)
        size = input_size if self.phase in ("train", "valid") else own
        looks = [self._look(film, number) for number in numbers]
        maps = [self._density(film, size, look) for look in looks]
        fixated = [fixation_map(look, own, size) for look in looks]
        if self.augmentation is not None:
            change = self.augmentation.draw(self.rng(index), np.logical_or.reduce(fixated))
            pictures = [change.of_picture(frame, input_size) for frame in frames]
            maps = [change.of_map(m) for m in maps]
            fixated = [change.of_fixations(f) for f in fixated]
        else:
            pictures = [resize_rgb(frame, input_size) for frame in frames]
        return Item(
            frame_nrs=numbers,
            frames=stacked([normalise(picture) for picture in pictures]),
            maps=stacked([normalise_map(m) for m in maps])[:, None],
            fixations=stacked(fixated)[:, None],
            target_size=size,
        )

    def _look(self, film: int, number: int) -> Fixations:
        """Return the fixations on a frame; in training those nearest in time if it has none."""
        every = self._trained_on(film)
        found = every.choose(frame=number - 1)
        if len(found) or self.phase not in ("train", "valid") or not len(every):
            return found
        frame = number - 1
        away = np.maximum(every.first_frame - frame, frame - every.last_frame)
        return every.take(away == away.min())

    # ---- frame by frame ---------------------------------------------------------------------
    def lengths(self) -> list[int]:
        return [film.n_frames for film in self.films]

    def files(self, index: int, number: int = 1) -> FrameFiles:
        pictures = self.films[index].pictures
        return FrameFiles(pictures[number - 1] if pictures else None)

    def prediction_path(self, index: int, number: int = 1) -> Path:
        return Path(self.prediction_names[index], f"{number:0{DIGITS}d}.png")

    def input_size_for(self, index: int) -> Size:
        """Return the size of the network's input for a film."""
        return self.input_size or optimal_input_size(self.frame_size(index))

    def read_picture(self, index: int, number: int = 1) -> RGB:
        return self._frames.read(index, number - 1)

    def read_input(self, index: int, number: int = 1) -> NDArray[np.float32]:
        return normalise(resize_rgb(self.read_picture(index, number), self.input_size_for(index)))

    def frame_time(self, index: int, number: int) -> float:
        return float(self.films[index].times[number - 1])

    def is_looked_at(self, index: int, number: int = 1) -> bool:
        return len(self.fixations(index, number)) > 0
