"""Pictures with a table of gaze as a data set."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count, check_number, check_switch
from unisal.data.base import Item, check_size, one_of
from unisal.data.gaze.fixations import Fixations
from unisal.data.gaze.maps import fixation_map
from unisal.data.gaze.parts import N_PARTS, SEED
from unisal.data.gaze.source import GazeSource
from unisal.data.images import ImageDataset
from unisal.data.pictures import read_rgb
from unisal.errors import UserError
from unisal.progress import SILENT, Progress
from unisal.types import Size

OBSERVERS = 1
"""Tells the random numbers that choose observers from all others of an example."""


class GazeFolder(GazeSource, ImageDataset):
    """A folder of pictures with a table of where people looked; see `GazeSource`.

    Pictures keep their aspect ratio: the network's input has the optimal size for each, and a batch
    holds pictures of one input size. In training and validation the ground truth has the size of
    the input, otherwise that of the picture, or the one that `score_size` gives it.

    Args:
        phase: see `GazeSource`.
        subset: see `SaliencyDataset`.
        input_size: (height, width) of the network's input for all pictures; None: the optimal one
            for each.
        score_size: the longer side, in pixels, of the ground truth and the predictions in scores;
            the aspect ratio stays. None: the size of each picture.
        n_x_val: see `GazeSource`.
        x_val_step: see `GazeSource`.
        x_val_seed: see `GazeSource`.
        train_stimuli: see `GazeSource`.
        train_observers: see `GazeSource`.
        observer_share: in training the share of a picture's observers whose gaze an example takes,
            at least one of them, drawn again in each epoch; None: all of them.
        skip_first: whether training leaves out each observer's first fixation on a picture, which
            the start of the trial has put where it is; not where nothing else is left.
        people_smoothing: in training a density of n observers is mixed with a uniform one that
            counts as much as this many, k: (n * density + k * uniform) / (n + k). If the table does
            not tell observers apart, n is 1.
        gaze: see `GazeSource`.
        fingerprint: see `GazeSource`.
        augment: see `SaliencyDataset`.
        seed: see `SaliencyDataset`.
        verbose: see `SaliencyDataset`.
        out_size: the published name of `input_size`.
        progress: see `GazeSource`.

    Raises:
        UserError: see `GazeSource`.
    """

    domain = "SALICON"
    batch_size = 16
    valid_batch_size = 16
    input_size: Size | None = None

    def __init__(
        self,
        phase: str = "train",
        subset: float = 1.0,
        input_size: Size | None = None,
        score_size: int | None = None,
        n_x_val: int = N_PARTS,
        x_val_step: int | None = None,
        x_val_seed: int | None = SEED,
        train_stimuli: Sequence[str] | int | None = None,
        train_observers: Sequence[str] | int | None = None,
        observer_share: float | None = None,
        skip_first: bool = False,
        people_smoothing: float = 0.0,
        gaze: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
        augment: bool | Mapping[str, Any] = False,
        seed: int | Sequence[int] = 0,
        verbose: int = 1,
        *,
        out_size: Size | None = None,
        progress: Progress = SILENT,
    ) -> None:
        input_size = one_of("input_size", input_size, "out_size", out_size)
        if input_size is not None:
            self.input_size = check_size(input_size, "input_size")
        self.score_size = None if score_size is None else check_count(score_size, "score_size")
        if observer_share is not None:
            check_number(observer_share, "observer_share", above=True, largest=1)
        self.observer_share = observer_share
        self.skip_first = check_switch(skip_first, "skip_first")
        self.people_smoothing = check_number(people_smoothing, "people_smoothing")
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
            input_size=self.input_size,
            score_size=self.score_size,
            observer_share=self.observer_share,
            skip_first=self.skip_first,
            people_smoothing=self.people_smoothing,
        )
        if observer_share is not None and phase == "train" and len(self.observers) < 2:
            raise UserError(
                f"observer_share: the table of {self.source} does not tell people apart"
            )
        self.images = [self.data.stimuli[index] for index in self.chosen]

    def lengths(self) -> list[int]:
        return [1] * len(self)

    def batch_group(self, index: int) -> Hashable:
        return self.input_size_for(index)

    def target_size(self, index: int) -> Size:
        height, width = self.frame_size(index)
        if self.score_size is None:
            return height, width
        scale = self.score_size / max(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def prediction_path(self, index: int, number: int = 1) -> Path:
        return Path(f"{self.prediction_names[index]}.png")

    def __getitem__(self, index: int) -> Item:
        if not self.has_maps:
            return self.item_without_maps(index)
        fixations, own = self._trained_on(index), self.frame_size(index)
        learning = self.phase in ("train", "valid")
        size = self.input_size_for(index) if learning else self.target_size(index)
        if self.phase == "train" and self.observer_share is not None:  # another one in each epoch
            density = self._target(index, size, fixations)
        else:
            key = ("item", index, size)
            density = self._maps.get(key, lambda: self._target(index, size, fixations))
        fixated = fixation_map(fixations, own, size)
        return self.item_with_maps(index, read_rgb(self.images[index]), np.array(density), fixated)

    def _target(self, index: int, size: Size, fixations: Fixations) -> NDArray[np.float32]:
        """Return the density that an example is compared with."""
        density = self._density(index, size, fixations)
        if self.phase != "train" or not self.people_smoothing:
            return density
        n, k = len(np.unique(fixations.observer)), self.people_smoothing
        smoothed: NDArray[np.float32] = (n * density + k / density.size) / (n + k)
        return smoothed.astype(np.float32)

    def _trained_on(self, index: int) -> Fixations:
        fixations = super()._trained_on(index)
        if self.phase != "train":
            return fixations
        if self.skip_first and (later := fixations.number > 1).any():
            fixations = fixations.take(later)
        if self.observer_share is not None:
            people = np.unique(fixations.observer)
            n = max(1, round(self.observer_share * len(people)))
            # A stream of its own, so that all other random changes stay as they are without it.
            rng = np.random.default_rng([*self.seed, self.epoch, index, OBSERVERS])
            fixations = fixations.choose(observers=rng.permutation(people)[:n].tolist())
        return fixations
