"""Video files, frame by frame: all that FFmpeg's libraries decode, through PyAV."""

from __future__ import annotations

import re
import struct
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from unisal.errors import UserError

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
"""Endings of videos in a folder, in lower or upper case. A file that is named by the user may have
any ending."""
USUAL_RATE, MAX_RATE = Fraction(25), 1000
"""Frames per second of a file that does not say; and the most that are believed."""
UPRIGHT = 1, 0, 0, 1
MICROSECONDS = 1_000_000
STREAM_TIMEOUT_SECONDS = 10.0
"""A stream that sends nothing for so long is taken as ended."""
MAX_MISSING = 1.5
"""Frames by which the end may miss the length that the file declares."""

Matrix = tuple[int, int, int, int]
"""(a, b, c, d): a stored point (x, y) is shown at (a x + c y, b x + d y)."""


class Frame(NamedTuple):
    """A frame of a video file."""

    rgb: NDArray[np.uint8]
    """The picture, the right way up."""
    time: Fraction
    """When it is shown: seconds since the start of the file. Later for each frame."""
    duration: Fraction
    """For how many seconds, as far as the file tells."""


class VideoFile:
    """A video file that is read once, frame by frame: `with VideoFile(path) as video`.

    Frames are decoded while they are asked for, so memory does not grow with the length. The
    orientation that the file names is applied. Frames keep their own times, at a variable rate
    too. If the size changes on the way, they are brought to that of the first.

    Args:
        path: a file, or text that is the URL of a stream.

    Raises:
        UserError: the file is missing, no video, or so broken that no frame can be decoded.

    Attributes:
        size: (height, width) of the frames as they are shown.
        rate: frames per second; the average where it varies.
        length: how many seconds the file says it holds, None where it does not say.
        n_frames: about how many frames that is; None where nobody knows.
        time_base: seconds; the unit of the frames' times.
        pixel_aspect: width of a pixel, as it is shown, over its height.
        damage: after the last frame: what the file lacks, in words; None for a sound one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._container = open_media(path)
        try:
            self._stream = self._find_pictures()
            stream = self._stream
            self.rate = _rate(stream)
            self.time_base = Fraction(stream.time_base or 1 / self.rate)
            self.length = _declared_length(self._container, stream)
            self.n_frames = stream.frames or (
                round(self.length * self.rate) if self.length else None
            )
            self.damage: str | None = None
            self._n_read = self._n_faults = 0
            self._fault = ""
            self._end = Fraction(0)
            self._frames = self._read()
            first = next(self._frames, None)
            if first is None:
                raise UserError(f"{path} holds no frame that can be decoded")
        except BaseException:
            self._container.close()
            raise
        self._first = first
        self.size = first.rgb.shape[0], first.rgb.shape[1]
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        self.pixel_aspect = aspect if self.size == (stream.height, stream.width) else 1 / aspect

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; of a file that is cut off or damaged, those that are left."""
        yield self._first
        yield from self._frames
        self.damage = self._find_damage()

    @property
    def end(self) -> Fraction:
        """When the last frame so far ends, in seconds.

        It is what the file declares, if that fits the frames: at a variable rate the duration of
        the last one may not be known.
        """
        if self.length is None:
            return self._end
        declared = [self.length, self._first.time + self.length]
        nearest = min(declared, key=lambda end: abs(end - self._end))
        return nearest if abs(nearest - self._end) * self.rate <= MAX_MISSING else self._end

    def _find_pictures(self) -> av.VideoStream:
        cover = av.stream.Disposition.attached_pic  # a still picture that belongs to some music
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        if not streams:
            raise UserError(f"{self.path} holds no video")
        streams[0].thread_type = "AUTO"
        return streams[0]

    def _read(self) -> Generator[Frame, None, None]:
        start, size = start_time(self._container), None
        time: Fraction | None = None
        rotation: int | None = None
        for decoded in self._decode():
            size = size or (decoded.height, decoded.width)
            if decoded.rotation != rotation:
                # Side data that was looked at keeps its frame in memory until Python's next
                # search for cycles, so it is not looked at for every frame.
                rotation, matrix = decoded.rotation, _matrix(decoded)
            rgb = decoded.to_ndarray(format="rgb24", height=size[0], width=size[1])
            last = time
            time = self._end if decoded.pts is None else decoded.pts * self.time_base - start
            if last is not None and time <= last:  # some files give two frames the same time
                time = max(self._end, last + self.time_base)
            duration = (decoded.duration or 0) * self.time_base or 1 / self.rate
            self._end = time + duration
            self._n_read += 1
            yield Frame(turned(rgb.astype(np.uint8, copy=False), matrix), time, duration)

    def _decode(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self._note(_reason(error))  # where the next part starts is not known
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self._note("incomplete")
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self._note(_reason(error))
                continue
            yield from frames

    def _note(self, fault: str) -> None:
        self._n_faults += 1
        self._fault = self._fault or fault

    def _find_damage(self) -> str | None:
        said = []
        start = self._first.time
        if self.length is not None:
            # The declared length counts from the first frame or from the start of the file.
            missing = min(self.length, self.length + start) - self._end
            if missing * self.rate > MAX_MISSING:
                held, whole = float(self._end - start), float(self.length)
                said.append(f"cut off after {self._n_read} frames, {held:.2f} of {whole:.2f} s")
        if self._n_faults:
            parts = "a part" if self._n_faults == 1 else f"{self._n_faults} parts"
            said.append(f"damaged: {parts} could not be read ({self._fault})")
        return f"{self.path} is {' and '.join(said)}" if said else None


def open_media(path: Path | str) -> InputContainer:
    """Open a file, or a URL: text that is no file's name.

    Raises:
        UserError: it cannot be opened; says why.
    """
    # FFmpeg takes what stands before a colon for a protocol. An absolute path has none.
    is_url = isinstance(path, str) and not Path(path).exists()
    try:
        if is_url:
            return av.open(str(path), timeout=STREAM_TIMEOUT_SECONDS)
        return av.open(str(Path(path).absolute()))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; expected a video") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a video: {_reason(error)}") from None


def start_time(container: InputContainer) -> Fraction:
    """Return the time at which a file starts, in seconds; it is not always zero."""
    return Fraction(container.start_time or 0, MICROSECONDS)


def turned(rgb: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Turn or mirror a stored picture `[H, W, 3]` as `matrix` says, to the nearest right angle."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        rgb = rgb.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        rgb = rgb[:, ::-1]
    if d < 0:
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _matrix(frame: av.VideoFrame) -> Matrix:
    said = frame.side_data.get("DISPLAYMATRIX")
    if said is None:
        return UPRIGHT
    # By rows: a, b, u, c, d, v, x, y, w.
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(said))  # type: ignore[call-overload]
    return a, b, c, d


def _rate(stream: av.VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= MAX_RATE:
            return Fraction(rate)
    return USUAL_RATE


def _declared_length(container: InputContainer, stream: av.VideoStream) -> Fraction | None:
    """Return how many seconds of video the file says it holds; None if it does not say."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    said = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if said:  # a tag of Matroska files
        return 3600 * int(said[1]) + 60 * int(said[2]) + Fraction(said[3])
    if container.duration and len(container.streams) == 1:  # else it may be that of the sound
        return Fraction(container.duration, MICROSECONDS)
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
