"""Films made of pictures: a window glides over each, and the fixations move with it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.checks import check_count
from unisal.data.base import check_size
from unisal.data.gaze.film import Film
from unisal.data.gaze.films import GazeVideoFolder
from unisal.data.gaze.fixations import Fixations, joined
from unisal.data.gaze.parts import N_PARTS, SEED
from unisal.data.pictures import read_rgb
from unisal.data.transforms import resize_rgb
from unisal.progress import SILENT, Progress
from unisal.types import RGB, Size

RATE = 30
"""Frames per second."""
N_FRAMES, FRAME_SIZE = 60, (360, 640)
ZOOM = 0.6, 0.95
"""The width of the window, as a share of the largest that fits into the picture."""
MIN_FIXATIONS, MAX_TRIES = 10, 50
"""Windows are drawn anew until every frame keeps that many fixations, or a quarter of them all."""
STREAM = 1
"""Sets the random stream of the windows apart from the others of an example."""


class MovingCrops(GazeVideoFolder):
    """Films made of a folder of pictures; see `GazeSource`.

    A window pans and zooms smoothly over each picture. Its pixels and its fixations are those of
    the picture, moved by the same window, and the blur of the maps grows with the zoom. Every frame
    has the fixations of the whole trial that lie in its window: nobody watched these films. In
    training the windows are drawn anew in each epoch, otherwise they follow from the picture's
    name.

    Args:
        phase: see `GazeSource`.
        subset: see `SaliencyDataset`.
        seq_len: see `GazeVideoFolder`.
        n_frames: number of frames of a film; there are 30 a second.
        frame_size: (height, width) of the frames.
        frame_step: see `GazeVideoFolder`.
        input_size: see `GazeVideoFolder`.
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
        frame_modulo: see `GazeVideoFolder`.
        out_size: see `GazeVideoFolder`.
        progress: see `GazeSource`.

    Raises:
        UserError: see `GazeSource`.
    """

    def __init__(
        self,
        phase: str = "train",
        subset: float = 1.0,
        seq_len: int = 12,
        n_frames: int = N_FRAMES,
        frame_size: Size = FRAME_SIZE,
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
        self.n_frames = check_count(n_frames, "n_frames")
        self.size = check_size(frame_size, "frame_size")
        self._picture: tuple[int, RGB] | None = None
        super().__init__(
            phase,
            subset,
            seq_len,
            frame_step,
            input_size,
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
            frame_modulo=frame_modulo,
            out_size=out_size,
            progress=progress,
        )
        self.config |= {"n_frames": self.n_frames, "frame_size": self.size}

    def _list_films(self) -> list[Film]:
        times, keys = np.arange(self.n_frames + 1) / RATE, np.arange(1)
        return [Film(self.data.stimuli[i], self.size, times, keys) for i in self.chosen]

    # ---- the window ---------------------------------------------------------------------------
    def window(self, index: int, number: int) -> NDArray[np.float64]:
        """Return which part of the picture a frame shows.

        Args:
            index: index of the film in this part.
            number: number of the frame, from 1.

        Returns:
            `[4]` left, top, width, height in pixels of the picture; 0, 0 is its corner.
        """
        key = "windows", index, self.epoch if self.phase == "train" else None
        windows: NDArray[np.float64] = self._maps.get(key, lambda: self._windows(index))
        return windows[number - 1]

    def _windows(self, index: int) -> NDArray[np.float64]:
        """Draw the windows of all frames, `[n, 4]`."""
        if self.phase == "train":
            rng = np.random.default_rng([*self.seed, self.epoch, index, STREAM])
        else:
            rng = np.random.default_rng(zlib.crc32(self.title(index).encode()))
        picture, found = self.data.sizes[self.chosen[index]], self._trained_on(index)
        wanted = min(MIN_FIXATIONS, len(found) // 4)
        for _ in range(MAX_TRIES):
            windows = glide(rng, self.n_frames, self.size, picture)
            inside = in_window(found, windows[:, :, None])
            if (inside.sum(axis=1) >= wanted).all():
                return windows
        whole = glide(rng, self.n_frames, self.size, picture, zoom=(1.0, 1.0))
        whole[:, :2] = (np.array(picture[::-1]) - whole[:, 2:]) / 2  # at rest in the middle
        return whole

    # ---- frames and fixations -----------------------------------------------------------------
    def frame_size(self, index: int) -> Size:
        return self.size

    def read_picture(self, index: int, number: int = 1) -> RGB:
        kept = self._picture
        if kept is None or kept[0] != index:
            kept = self._picture = index, read_rgb(self.data.stimuli[self.chosen[index]])
        rgb, (left, top, width, height) = kept[1], self.window(index, number).tolist()
        # Rounding may have put an edge beyond that of the picture.
        right, bottom = min(left + width, rgb.shape[1]), min(top + height, rgb.shape[0])
        return resize_rgb(rgb, self.size, (max(left, 0.0), max(top, 0.0), right, bottom))

    def _on_frame(self, index: int, number: int | None, found: Fixations) -> Fixations:
        numbers = range(1, self.n_frames + 1) if number is None else [number]
        return joined([self._moved(index, n, found) for n in numbers])

    def blur(self, index: int) -> tuple[float, float]:
        return self._blur(index, (1 + self.n_frames) // 2)

    def _blur(self, index: int, number: int) -> tuple[float, float]:
        """Return the blur of a frame's map, in pixels of the frame."""
        vertical, horizontal = self.data.blur(self.chosen[index])
        width, height = self.window(index, number)[2:]
        return vertical * self.size[0] / float(height), horizontal * self.size[1] / float(width)

    def _blur_of(self, index: int, fixations: Fixations) -> tuple[float, float]:
        number = 1 + int(fixations.first_frame[0]) if len(fixations) else 1
        return self._blur(index, number)

    def _look(self, film: int, number: int) -> Fixations:
        return self._moved(film, number, self._trained_on(film))

    def _moved(self, index: int, number: int, found: Fixations) -> Fixations:
        """Return the fixations in a frame's window, in pixels of the frame."""
        window = self.window(index, number)
        inside = found.take(in_window(found, window))
        left, top, width, height = window
        frame = np.full(len(inside), number - 1)
        return replace(
            inside,
            x=(inside.x + 0.5 - left) * self.size[1] / width - 0.5,
            y=(inside.y + 0.5 - top) * self.size[0] / height - 0.5,
            first_frame=frame,
            last_frame=frame,
        )


def glide(
    rng: np.random.Generator,
    n: int,
    frame: Size,
    picture: Size,
    zoom: tuple[float, float] = ZOOM,
) -> NDArray[np.float64]:
    """Draw a window that moves smoothly from one random place to another.

    Args:
        rng: where to draw from.
        n: number of frames.
        frame: (height, width) of the frames, whose aspect ratio the window has.
        picture: (height, width) of the picture.
        zoom: the smallest and largest width, as a share of the largest window that fits.

    Returns:
        `[n, 4]` left, top, width, height in pixels of the picture.
    """
    height, width = picture
    largest = min(width, height * frame[1] / frame[0])
    ends = []
    for _ in range(2):
        w = largest * rng.uniform(*zoom)
        h = w * frame[0] / frame[1]
        across, down = rng.uniform(size=2)
        ends.append((across * (width - w), down * (height - h), w, h))
    ease = (1 - np.cos(np.linspace(0, np.pi, n)))[:, None] / 2
    moved: NDArray[np.float64] = (1 - ease) * ends[0] + ease * ends[1]
    return moved


def in_window(fixations: Fixations, window: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which fixations lie in a window, `[k] bool`; of windows `[n, 4, 1]`, `[n, k] bool`."""
    left, top, width, height = np.moveaxis(window, -1 if window.ndim == 1 else 1, 0)
    across, down = (fixations.x + 0.5 - left) / width, (fixations.y + 0.5 - top) / height
    inside: NDArray[np.bool_] = (across >= 0) & (across < 1) & (down >= 0) & (down < 1)
    return inside
