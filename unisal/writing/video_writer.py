"""Writing of frames to a video file that browsers play: H.264 in MP4."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange

from unisal.checks import check_count, check_number
from unisal.errors import UserError
from unisal.files import whole_file
from unisal.types import RGB, Size

ENCODER = "libx264"
CRF, MAX_CRF = 20, 51
"""x264's constant rate factor: 18 to 23 look like the original; higher values give smaller files
of lower quality."""
BT709 = 1
"""The number of ITU-R BT.709 in the tables of ITU-T H.273."""
MAX_DENOMINATOR = 1001
"""The largest denominator of a frame rate that is given as a float: 29.97... is 30000/1001."""


class VideoWriter:
    """Writes a video frame by frame; used in a `with` statement.

    The file gets its name when the block has ended without an error; otherwise nothing is left of
    it. The pictures are 8-bit 4:2:0 in BT.709 and tagged as such. The index is at the start of the
    file, so that a browser can play the video while it loads.

    Args:
        path: the file, `.mp4`.
        fps: frames per second; only approximate where a `time_base` is given.
        size: (height, width) of the frames. 4:2:0 needs even sides: an odd side gets one more row
            or column, a copy of the last one.
        crf: x264's quality setting, from 1 to `MAX_CRF`, see `CRF`.
        time_base: seconds per unit of `pts`. None: every frame lasts 1 / `fps` seconds.

    Attributes:
        container: the open file, until the block ends. Audio streams can be added to it before
            the first frame is written.
        stream: the video stream in it.
        n_frames: number of frames written so far.

    Raises:
        UserError: the file is not an `.mp4`, a number is out of range, or the installed PyAV cannot
            encode H.264.
    """

    def __init__(
        self,
        path: Path,
        fps: Fraction | float,
        size: Size,
        crf: int = CRF,
        time_base: Fraction | None = None,
    ) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"{path} has to end in .mp4")
        check_count(crf, "crf", largest=MAX_CRF)
        self.path = path
        self.rate = as_rate(fps)
        self.size = size
        self.crf = crf
        self.time_base = time_base
        self.n_frames = 0
        self._unit = time_base or 1 / self.rate
        self._last: int | None = None
        self._step = max(1, round(1 / (self.rate * self._unit)))
        self._durations: dict[int, int] = {}

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(whole_file(self.path))
            # FFmpeg takes whatever precedes a colon for a protocol. An absolute path has none.
            self.container = stack.enter_context(
                av.open(
                    str(temporary.absolute()), "w", format="mp4", options={"movflags": "faststart"}
                )
            )
            self.stream = self._add_stream()
            stack.push(self._finish)
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Write what is left, close the container, give the file its name: each only if there has
        # been no error.
        self._closing.__exit__(kind, error, trace)

    def write(self, rgb: RGB, pts: int | None = None, duration: int | None = None) -> None:
        """Add a frame.

        Args:
            rgb: `[H, W, 3] uint8`.
            pts: when the frame is shown, in units of `time_base`, later than the one before.
                Required if and only if there is a `time_base`.
            duration: how long the frame is shown, in the same units; it matters only for the last
                frame. By default as long as the frame before.

        Raises:
            ValueError: the frame is of another shape or dtype, or its time is out of range.
        """
        if rgb.shape != (*self.size, 3) or rgb.dtype != np.uint8:
            raise ValueError(
                f"frame {self.n_frames + 1} is {list(rgb.shape)} {rgb.dtype}; this video has "
                f"{[*self.size, 3]} uint8"
            )
        frame = self._to_yuv(rgb)
        frame.pts = self._next_time(pts)
        frame.time_base = self._unit
        self._durations[frame.pts] = self._step if duration is None else duration
        self.n_frames += 1
        self._mux(self.stream.encode(frame))

    def end_at(self, pts: int) -> None:
        """Show the last frame until a time, in units of `time_base`."""
        if self._last is not None and self._last in self._durations:
            self._durations[self._last] = max(1, pts - self._last)

    def _add_stream(self) -> av.VideoStream:
        """Add the video stream with its encoder to the container."""
        try:
            # No B-frames: MP4 keeps the duration of the packet that is written last, which is then
            # the frame that is shown last.
            options = {"crf": str(self.crf), "bf": "0"}
            stream = self.container.add_stream(ENCODER, rate=self.rate, options=options)
        except av.codec.codec.UnknownCodecError:
            raise UserError(
                f"the installed PyAV has no encoder {ENCODER!r}; the one of `pip install av` has it"
            ) from None
        assert isinstance(stream, av.VideoStream)
        height, width = self.size
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = self._unit
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = ColorRange.MPEG
        return stream

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            if not self.n_frames:
                raise ValueError(f"no frame was written to {self.path}")
            self._mux(self.stream.encode())

    def _to_yuv(self, rgb: RGB) -> av.VideoFrame:
        """Convert a frame to 4:2:0 in BT.709; odd sides are extended."""
        height, width = self.size
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")

    def _next_time(self, pts: int | None) -> int:
        """Return the time of the next frame, and check that it is later than the last."""
        if (pts is None) != (self.time_base is None):
            raise ValueError("pts and time_base belong together: give both or neither")
        if pts is None:
            return self.n_frames
        if self._last is not None:
            if pts <= self._last:
                raise ValueError(f"pts {pts} is not later than {self._last}, the frame before")
            self._step = pts - self._last
        self._last = pts
        return pts

    def _mux(self, packets: Iterable[av.Packet[av.VideoStream]]) -> None:
        for packet in packets:
            # The encoder returns frames late, without their duration.
            assert packet.pts is not None
            packet.duration = self._durations.pop(packet.pts)
            self.container.mux(packet)


def as_rate(fps: Fraction | float) -> Fraction:
    """Return a number of frames per second as a fraction.

    Raises:
        UserError: it is not a number above 0.
    """
    given = check_number(fps, "fps", above=True)
    rate = Fraction(given)
    if isinstance(given, float):
        rate = rate.limit_denominator(MAX_DENOMINATOR)
    if rate == 0:
        raise UserError(f"fps is {fps!r}; that is too close to 0")
    return rate
