"""Films of gaze data: video files and folders of frames, any frame of which can be read."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import RLock
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from unisal.data.pictures import displayed_size, list_pictures, read_rgb
from unisal.data.video_file import Frame, VideoFile, open_media, start_time
from unisal.errors import UserError
from unisal.types import RGB, Size

MAX_SKIPPED = 64
"""How many frames are decoded in vain, at most, before a key frame is looked for."""
INDEXED_FORMATS = ("mov", "matroska")
"""Formats, by FFmpeg's names, whose key frames can be gone to exactly. Others are read from their
start: what comes after a jump into them is not always the frame that was meant (measured)."""
CACHE_BYTES = 128 * 2**20
"""The memory for decoded frames, per data set and process."""


@dataclass(frozen=True)
class Film:
    """A film on disk: a video file, or a folder of pictures."""

    path: Path
    size: Size
    """(height, width) as it is shown."""
    times: NDArray[np.float64]
    """When each frame is shown, `[n + 1]` seconds from the start; the last one is the end."""
    keys: NDArray[np.int64]
    """The frames, from 0, at which decoding can begin."""
    pictures: tuple[Path, ...] = ()
    """The frames of a folder; none for a video file."""

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.times) - 1

    @property
    def rate(self) -> float:
        """Frames per second, on average."""
        length = float(self.times[-1] - self.times[0])
        return self.n_frames / length if length > 0 else 1.0

    def shown(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.int64]:
        """Find the frames that are shown in some spans of time.

        Args:
            start: the starts of the spans, `[n]` seconds.
            end: the ends; a span without a length is a moment.

        Returns:
            The first and the last frame of each, from 0, `[n, 2]`; -1 and -2 outside the film.
        """
        first = np.searchsorted(self.times, start, side="right") - 1
        last = np.searchsorted(self.times, end, side="left") - 1
        spans = np.stack([np.maximum(first, 0), np.minimum(last, self.n_frames - 1)], 1)
        spans[:, 1] = np.maximum(spans[:, 1], np.minimum(first, self.n_frames - 1))
        spans[(first >= self.n_frames) | (end < self.times[0])] = -1, -2
        return spans


def read_film(path: Path, frame_rate: float) -> Film:
    """Read what is needed to find any frame of a film, without decoding more than one.

    Args:
        path: a video file, or a folder of pictures in the order of their names.
        frame_rate: frames per second of a folder.

    Raises:
        UserError: it cannot be read.
    """
    if path.is_dir():
        pictures = list_pictures(path)
        if not pictures:
            raise UserError(f"{path} holds no frames (.png, .jpg, .jpeg)")
        times = np.arange(len(pictures) + 1) / frame_rate
        keys = np.arange(len(pictures))
        return Film(path, displayed_size(pictures[0]), times, keys, tuple(pictures))
    with VideoFile(path) as video:
        size, stream, rate = video.size, video._stream.index, float(video.rate)
    with open_media(path) as container:
        times, is_key = _packet_times(container, stream)
    if not len(times):
        with VideoFile(path) as video:  # no times in the file: count the frames
            times = np.array([float(frame.time) for frame in video])
        is_key = np.arange(len(times)) == 0
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 1 / rate
    keys = np.union1d([0], np.flatnonzero(is_key))
    return Film(path, size, np.append(times, times[-1] + usual), keys)


def _packet_times(
    container: av.container.InputContainer, stream: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return when the frames of a file are shown, in order, and which are key frames."""
    track = container.streams[stream]
    start, unit = start_time(container), track.time_base or Fraction(1)
    found: list[tuple[float, bool]] = []
    with contextlib.suppress(av.FFmpegError, OSError):  # what is left of a damaged file counts
        for packet in container.demux(track):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:  # there are no times
                return np.empty(0), np.empty(0, dtype=bool)
            found.append((float(packet.pts * unit - start), packet.is_keyframe))
    found.sort()
    is_indexed = any(name in container.format.name for name in INDEXED_FORMATS)
    is_key = [key and (is_indexed or i == 0) for i, (_, key) in enumerate(found)]
    return np.array([time for time, _ in found]), np.array(is_key, dtype=bool)


class _FilmFrom(VideoFile):
    """A video file that is read from a key frame on."""

    def __init__(self, path: Path, start: Fraction) -> None:
        self._from = start
        super().__init__(path)

    def _packets(self) -> Iterator[Any]:
        if self._from:
            at = self._from + start_time(self._container)
            self._container.seek(round(at / self.time_base), stream=self._stream)
            self._end = self._from
        return super()._packets()


class FrameReader:
    """Reads frames of films in any order; those of a clip are decoded one after the other.

    It may be used by several threads at once, and copied to another process.

    Args:
        films: the films.
        cache_bytes: how much memory decoded frames may take.
    """

    def __init__(self, films: list[Film], cache_bytes: int = CACHE_BYTES) -> None:
        self.films, self.cache_bytes = films, cache_bytes
        self._forget()

    def _forget(self) -> None:
        self._lock = RLock()
        self._cache: OrderedDict[tuple[int, int], RGB] = OrderedDict()
        self._used = 0
        self._open: tuple[int, int, Iterator[Frame], VideoFile] | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"films": self.films, "cache_bytes": self.cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def read(self, film: int, number: int) -> RGB:
        """Read a frame.

        Args:
            film: index of the film.
            number: number of the frame, from 0.

        Returns:
            `[H, W, 3] uint8`; it must not be changed.

        Raises:
            UserError: it cannot be read.
        """
        described = self.films[film]
        if described.pictures:
            return read_rgb(described.pictures[number])
        if self._process != os.getpid():  # a forked one must not read from the other's file
            self._forget()
        with self._lock:
            if (film, number) not in self._cache:
                self._decode_to(film, number)
            self._cache.move_to_end((film, number))
            return self._cache[film, number]

    def _decode_to(self, film: int, number: int) -> None:
        """Decode frames up to one and keep them."""
        described = self.films[film]
        before = int(np.searchsorted(described.keys, number, side="right")) - 1
        key = int(described.keys[max(0, before)])
        at = self._open[1] if self._open is not None and self._open[0] == film else None
        if at is None or not (at <= number and key <= at + MAX_SKIPPED):
            self._start(film, key if number > MAX_SKIPPED else 0)
            if self._open is not None and self._open[1] > number:  # the file went too far
                self._start(film, 0)
        assert self._open is not None
        _, at, frames, video = self._open
        for frame in frames:
            self._keep(film, at, frame.rgb)
            at += 1
            self._open = film, at, frames, video
            if at > number:
                return
        video.close()
        self._open = None
        raise UserError(
            f"{described.path}: frame {number + 1} of {described.n_frames} cannot be decoded"
        )

    def _start(self, film: int, key: int) -> None:
        """Open a film at a key frame."""
        if self._open is not None:
            self._open[3].close()
            self._open = None
        described = self.films[film]
        start = Fraction(float(described.times[key])).limit_denominator(10**6) if key else 0
        video = _FilmFrom(described.path, Fraction(start))
        frames = iter(video)
        at = 0
        if key:  # the file may begin at another key frame than asked for
            time = float(video._first.time)
            at = int(np.abs(described.times[:-1] - time).argmin())
        self._open = film, at, frames, video

    def _keep(self, film: int, number: int, rgb: RGB) -> None:
        """Add a frame to the cache and forget those that were not used for longest."""
        if (film, number) not in self._cache:
            self._used += rgb.nbytes
        self._cache[film, number] = rgb
        while self._used > self.cache_bytes and len(self._cache) > 1:
            self._used -= self._cache.popitem(last=False)[1].nbytes
