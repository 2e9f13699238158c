"""Video files, frame by frame: everything that FFmpeg's libraries decode, through PyAV."""

from __future__ import annotations

import gc
import os
import re
import struct
from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image

from unisal.data.frame_colours import frame_to_rgb
from unisal.errors import UserError, cause
from unisal.forks import never_free, renew_after_fork

ANIMATION_SUFFIXES = (".apng", ".avif", ".avifs", ".gif", ".png")
"""Endings of pictures that may be videos: if they move, see `is_animation`."""
DEFAULT_FPS, MAX_FPS = Fraction(25), 1000
"""Frames per second of a file that does not declare them, and the most that are believed."""
MIN_USUAL_FPS = Fraction(1, 10)
"""An average below this is believed only if the file has no other rate."""
UPRIGHT = 1, 0, 0, 1
MICROSECONDS = 1_000_000
STREAM_TIMEOUT_SECONDS = 10.0
"""A stream that sends nothing for this long counts as ended."""
MAX_MISSING_FRAMES = 1.5
"""By how many frames the end may miss the length that the file declares."""
COVER = Disposition.attached_pic | Disposition.timed_thumbnails
"""Streams that are never the film: covers and previews."""
PART = Disposition.still_image | Disposition.dependent
"""Streams that are the film only where there is no other one."""
MAX_GAP_SECONDS, MAX_BROADCAST_GAP_SECONDS = 600, 10
"""How far from the end of the frame before a time stamp is believed. Recorded lectures hold a slide
for minutes; in transport streams, whose clocks do jump, FFmpeg's own programs take 10 s too."""
TS_DISCONT = 0x200
"""FFmpeg's flag of formats whose clocks may jump, `AVFMT_TS_DISCONT`."""
MAX_FILLERS = 3
"""Empty packets behind the first one of an AVI file that are taken as a late start of the film:
FFmpeg writes them there, not before the first frame."""
MAX_REORDER = 16
"""Frames between decoding and showing one, at most, in H.264 and HEVC."""
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

Matrix = tuple[int, int, int, int]
"""(a, b, c, d): a stored point (x, y) is shown at (a x + c y, b x + d y)."""


class Frame(NamedTuple):
    """A frame of a video file."""

    rgb: NDArray[np.uint8]
    """The picture, the right way up."""
    time: Fraction
    """When it is shown, in seconds since the start of the file; it increases with every frame."""
    duration: Fraction
    """How many seconds it is shown, as far as the file declares them."""


class Jump(NamedTuple):
    """Where a file's times are not those of the film: in seconds since the start of the file."""

    before: Fraction
    """When the frame before ends."""
    after: Fraction
    """When the next one is shown, by the file; in truth at once."""


class VideoFile:
    """A video file that is read once, frame by frame: `with VideoFile(path) as video`.

    Frames are decoded when they are asked for, so memory does not grow with the length. The
    orientation that the file names is applied. Frames keep their own times, even at a variable
    rate, but a gap of more than `MAX_GAP_SECONDS` (in transport streams
    `MAX_BROADCAST_GAP_SECONDS`) counts as a jump of the clock and is closed up. If the size changes
    on the way, frames are resized to that of the first.

    Args:
        path: a file, or text that is the URL of a stream.

    Raises:
        UserError: the file is missing, not a video, or so broken that no frame can be decoded.

    Attributes:
        size: (height, width) of the frames as they are shown.
        rate: frames per second; the average where it varies.
        length: the seconds of video that the file declares; None if it does not.
        time_base: the unit of the frames' times, in seconds.
        pixel_aspect: width of a pixel, as it is shown, over its height.
        jumps: of the file's times, so far.
        damage: after the last frame: what is wrong with the file, in words; None for a sound one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._container = open_media(path)
        try:
            self._stream = self._find_pictures()
            stream = self._stream
            self._decoder = _alpha_decoder(stream)
            self.rate = _rate(stream)
            self.time_base = Fraction(stream.time_base or 1 / self.rate)
            self.length = _declared_length(self._container, stream)
            self.jumps: list[Jump] = []
            self.damage: str | None = None
            self._max_gap = _max_gap(self._container)
            self._numbers: deque[int] | None = deque() if _is_avi(self._container) else None
            self._n_read = self._n_faults = 0
            self._fault = ""
            self._end = Fraction(0)
            self._usual = min(1 / self.rate, self._max_gap)
            self._jumped = Fraction(0)
            self._frames = self._read()
            self._is_parents = False
            first = self._next()
            if first is None:
                why = f": {self._fault}" if self._fault else ""
                raise UserError(f"{path} holds no frame that can be decoded{why}")
        except BaseException as error:
            self._container.close()
            if isinstance(error, UserError) or not isinstance(error, Exception):
                raise
            raise UserError(f"{path} cannot be read as a video: {cause(error)}") from None
        self._first = first
        renew_after_fork(self)
        renew_after_fork(_OBJECTS)
        self.size = first.rgb.shape[0], first.rgb.shape[1]
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        self.pixel_aspect = aspect if self.size == (stream.height, stream.width) else 1 / aspect

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if not self._is_parents:
            self._frames.close()
            self._container.close()

    def renew(self) -> None:
        """Leave the file alone in a forked process, which has no threads that decode it."""
        self._is_parents = True

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; of a file that is cut off or damaged, those that are left."""
        yield self._first
        while (frame := self._next()) is not None:
            yield frame
        self.damage = self._find_damage()

    def _next(self) -> Frame | None:
        """Return the next frame, None behind the last one; any failure is that file's."""
        if self._is_parents:
            raise UserError(
                f"{self.path} was opened by another process, from which this one was forked; open "
                "it anew"
            )
        try:
            return next(self._frames, None)
        except UserError:
            raise
        except Exception as error:  # PyAV raises many types on odd files
            raise UserError(f"{self.path} cannot be read as a video: {cause(error)}") from error

    @property
    def n_frames(self) -> int | None:
        """Approximately how many frames there are; None if it is not known.

        It changes while the file is read, where its clock jumps.
        """
        said = self._stream.frames
        return said or (round(self.length * self.rate) if self.length else None)

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
        return nearest if abs(nearest - self._end) * self.rate <= MAX_MISSING_FRAMES else self._end

    def _find_pictures(self) -> av.VideoStream:
        """Return the video stream that a player would show."""
        films = [s for s in self._container.streams.video if not s.disposition & COVER]
        if not films:
            raise UserError(f"{self.path} holds no video")
        # Of a stream whose codec is unknown there is no context, whatever the types say.
        known = [s for s in films if getattr(s, "codec_context", None) is not None]
        if not known:
            raise UserError(f"{self.path} is coded in a way that this PyAV cannot decode")
        best = max(known, key=partial(_rank, self._container))  # the first one of equal rank
        best.thread_type = "AUTO"
        return best

    def _read(self) -> Generator[Frame, None, None]:
        """Yield the frames with their times, all of one size and the right way up."""
        start, size = start_time(self._container), None
        time: Fraction | None = None
        rotation: int | None = None
        for decoded in self._decode():
            size = size or (decoded.height, decoded.width)
            if decoded.rotation != rotation:
                # Accessing side data keeps its frame in memory until Python's next search for
                # cycles, so it is not accessed for every frame.
                rotation, matrix = decoded.rotation, _matrix(decoded)
            try:
                rgb = frame_to_rgb(decoded, size)
            except (
                Exception
            ) as error:  # a format that FFmpeg cannot convert, too little memory, ...
                self._note(cause(error))
                continue
            duration = (decoded.duration or 0) * self.time_base
            if duration > self._max_gap:  # the clock jumps behind this frame
                duration = self._usual
            elif duration:
                self._usual = duration
            else:
                duration = min(1 / self.rate, self._max_gap)
            last, pts = time, self._pts(decoded)
            time = self._end if pts is None else self._film_time(pts * self.time_base - start)
            if last is not None and time <= last:  # some files give two frames the same time
                time = max(self._end, last + self.time_base)
            self._end = time + duration
            self._n_read += 1
            yield Frame(turned(rgb, matrix), time, duration)

    def _film_time(self, time: Fraction) -> Fraction:
        """Return when a frame is shown whose time in the file is given."""
        step = time - self._jumped - self._end
        if abs(step) <= self._max_gap:
            return time - self._jumped
        self.jumps.append(Jump(self._end + self._jumped, time))
        self._jumped += step
        if self.length is not None:  # it counts the jump, and of one back nothing is known
            self.length = self.length - step if 0 < step < self.length else None
        return self._end

    def _pts(self, frame: av.VideoFrame) -> int | None:
        """Return the time of a frame by the file, in the stream's unit."""
        if self._numbers is None:
            return frame.pts
        if not self._numbers:
            return None
        # AVI has no times: frames are shown one by one, whatever their order in the file.
        number = self._numbers.popleft()
        while self._numbers and frame.pts is not None and frame.pts - number > MAX_REORDER:
            number = self._numbers.popleft()  # there are packets that gave no frame
        return number

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield the decoded frames, and note parts that cannot be decoded."""
        packets = self._packets()
        for packet in packets if self._numbers is None else self._numbered(packets, self._numbers):
            if packet.is_corrupt:
                self._note("incomplete")
            try:
                frames = self._decoded(packet)
            except Exception as error:  # PyAV raises other types as well
                self._note(cause(error))
                if self._numbers and packet.dts is not None and packet.dts in self._numbers:
                    self._numbers.remove(packet.dts)
                continue
            yield from frames

    def _packets(self) -> Iterator[av.Packet[av.VideoStream]]:
        """Yield the packets, up to the first that cannot be read."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except Exception as error:
                self._note(cause(error))  # the start of the next part is not known
                return
            if packet is None:
                return
            yield packet

    @staticmethod
    def _numbered(
        packets: Iterator[av.Packet[av.VideoStream]], numbers: deque[int]
    ) -> Iterator[av.Packet[av.VideoStream]]:
        """Note the numbers of the packets that hold a frame, which stand for times in AVI."""
        head = []
        for packet in packets:
            head.append(packet)
            if sum(bool(p.size) for p in head) == 2:
                break
        held = [p.dts for p in head if p.size and p.dts is not None]
        delay = held[1] - held[0] - 1 if len(held) == 2 else 0
        late = delay if 0 < delay <= MAX_FILLERS else 0
        for packet in chain(head, packets):
            if packet.size and packet.dts is not None:
                numbers.append(packet.dts + late)
                late = 0
            yield packet

    def _decoded(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        """Return the frames that the decoder gives for a packet."""
        if self._decoder is None:
            return packet.decode()
        return self._decoder.decode(packet if packet.size else None)

    def _note(self, fault: str) -> None:
        self._n_faults += 1
        self._fault = self._fault or fault

    def _find_damage(self) -> str | None:
        """Describe what is wrong with the file; None for a sound one."""
        said, jumps = [], [abs(jump.after - jump.before) for jump in self.jumps]
        start = self._first.time
        if self.length is not None:
            # The declared length counts from the first frame or from the start of the file.
            missing = min(self.length, self.length + start) - self._end
            if missing * self.rate > MAX_MISSING_FRAMES:
                held, whole = float(self._end - start), float(self.length)
                said.append(f"cut off after {self._n_read} frames, {held:.2f} of {whole:.2f} s")
        if self._n_faults:
            parts = "a part" if self._n_faults == 1 else f"{self._n_faults} parts"
            said.append(f"damaged: {parts} could not be read ({self._fault})")
        said = [f"is {' and '.join(said)}"] if said else []
        if jumps:
            gaps = "a gap of" if len(jumps) == 1 else f"{len(jumps)} gaps of up to"
            said.append(f"has {gaps} {float(max(jumps)):.0f} s in its times, which are closed up")
        return f"{self.path} {' and '.join(said)}" if said else None


def is_animation(path: Path) -> bool:
    """Return whether a file is a picture that moves, and that FFmpeg can read (not so WebP)."""
    if path.suffix.lower() not in ANIMATION_SUFFIXES:
        return False
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except Exception:  # decoders of other people's files raise of many types
        return False


class _PyAVObjects:
    """All that PyAV has made: decoders, and frames, which hold what converts them, with threads."""

    def renew(self) -> None:
        """Keep them in a forked process, in which to free them would be to wait for ever."""
        for thing in gc.get_objects():
            if str(type(thing).__module__).startswith("av."):
                never_free(thing)


_OBJECTS = _PyAVObjects()


def open_media(path: Path | str) -> InputContainer:
    """Open a file, or a URL: text that is not the name of a file.

    Raises:
        UserError: it cannot be opened; the message says why.
    """
    # FFmpeg takes whatever precedes a colon for a protocol. An absolute path has none.
    is_url = isinstance(path, str) and not os.path.exists(path)  # noqa: PTH110  # any length
    try:
        if is_url:
            return av.open(str(path), timeout=STREAM_TIMEOUT_SECONDS, metadata_errors="replace")
        return av.open(str(Path(path).absolute()), metadata_errors="replace")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; expected a video") from None
    except Exception as error:  # PyAV raises many types on odd files
        raise UserError(f"{path} cannot be read as a video: {cause(error)}") from None


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
    """Return the orientation that a frame's side data names."""
    said = frame.side_data.get("DISPLAYMATRIX")
    if said is None:
        return UPRIGHT
    # By rows: a, b, u, c, d, v, x, y, w.
    try:
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(said))  # type: ignore[call-overload]
    except struct.error:
        return UPRIGHT
    return a, b, c, d


def _rate(stream: av.VideoStream) -> Fraction:
    """Return the frames per second that a stream declares, if they are believable."""
    said = (stream.average_rate, stream.guessed_rate)
    rates = [Fraction(rate) for rate in said if rate and 0 < rate <= MAX_FPS]
    # Where the clock jumps, the average counts the jump.
    usual = (rate for rate in rates if rate >= MIN_USUAL_FPS)
    return next(usual, rates[0] if rates else DEFAULT_FPS)


def _rank(container: InputContainer, stream: av.VideoStream) -> tuple[bool, bool, int, Fraction]:
    """Return what makes a player choose a stream, the most important first."""
    length = _declared_length(container, stream) or Fraction(0)
    # A picture that stands for the film may be a stream that nothing marks as such.
    is_still = stream.frames == 1 or 0 < length * _rate(stream) < MAX_MISSING_FRAMES
    is_still = is_still or bool(stream.disposition & PART)
    is_default = bool(stream.disposition & Disposition.default)
    return not is_still, is_default, stream.height * stream.width, length


def _max_gap(container: InputContainer) -> Fraction:
    """Return how many seconds a gap between frames may last."""
    is_broadcast = container.format.flags & TS_DISCONT
    return Fraction(MAX_BROADCAST_GAP_SECONDS if is_broadcast else MAX_GAP_SECONDS)


def _is_avi(container: InputContainer) -> bool:
    """Return whether a file numbers its frames and does not time them."""
    return container.format.name == "avi"


def _alpha_decoder(stream: av.VideoStream) -> av.VideoCodecContext | None:
    """Return the decoder of transparent WebM; FFmpeg's own ones ignore the transparency."""
    name = ALPHA_DECODERS.get(stream.codec_context.name)
    if name not in av.codecs_available or stream.metadata.get("alpha_mode") != "1":
        return None
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return decoder


def _declared_length(container: InputContainer, stream: av.VideoStream) -> Fraction | None:
    """Return how many seconds of video the file declares; None if it does not."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    said = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if said:  # a tag of Matroska files
        return 3600 * int(said[1]) + 60 * int(said[2]) + Fraction(said[3])
    if container.duration and len(container.streams) == 1:  # else it may be that of the sound
        return Fraction(container.duration, MICROSECONDS)
    return None
