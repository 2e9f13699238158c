"""The sound of a video, taken along into the MP4 file that is made of it.

Sound never costs the pictures: what cannot be kept is left out, and said.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from numpy.typing import NDArray

from unisal.data.video_file import MAX_GAP_SECONDS, Jump, open_media

COPIED_CODECS = frozenset({"aac", "mp3", "opus", "flac"})
"""Codecs that browsers play in an MP4 file, by FFmpeg's names; all others are re-encoded."""
ENCODER: Final = "aac"
FALLBACK_SAMPLE_RATE = 48_000
"""Samples per second, for sound that is re-encoded and whose own rate AAC does not support."""
MAX_CHANNELS = 8
"""Of AAC; more are mixed down to two."""
N_PROBED = 8
"""Packets that are decoded and written on trial, before a file is begun."""
MAX_HOLE_SECONDS = Fraction(1, 10)
"""Missing sound of this length and above is replaced by silence where sound is re-encoded."""
FAULTS = (av.FFmpegError, ValueError, TypeError, LookupError, RuntimeError, MemoryError)
"""What reading, decoding and converting sound may raise."""


class SoundChoice(NamedTuple):
    """Which sound of a file to take."""

    stream: int
    """Number of the stream in its file, from 0."""
    is_copied: bool
    """Whether it is kept as it is, or encoded as AAC."""


def choose_sound(path: Path | str) -> tuple[SoundChoice | None, str | None]:
    """Choose the first sound of a file that can be decoded.

    Returns:
        The choice, None if there is none; and why sound that is there cannot be taken.
    """
    with open_media(path) as source:
        indexes = [stream.index for stream in source.streams.audio]
    reason = None
    for index in indexes:
        with open_media(path) as source:
            try:
                return SoundChoice(index, _can_be_copied(source, index)), None
            except FAULTS as error:
                reason = reason or _reason(error)
    return None, reason


def _can_be_copied(source: InputContainer, index: int) -> bool:
    """Return whether a stream of sound can be copied to an MP4 file.

    Raises:
        ValueError: it cannot be decoded either.
    """
    sound = _stream(source, index)
    packets = list(islice((p for p in source.demux(sound) if p.size), N_PROBED))
    reason: Exception | None = None
    n_frames = 0
    for packet in packets:
        try:
            n_frames += len(packet.decode())
        except FAULTS as error:
            reason = error
    if packets and not n_frames:
        n_frames = len(sound.codec_context.decode(None)) if reason is None else 0
    if not n_frames:
        raise ValueError(_reason(reason) if reason else "it is empty")
    if sound.codec_context.codec.canonical_name not in COPIED_CODECS:
        return False
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            out = trial.add_stream_from_template(sound)
            for i, packet in enumerate(packets):
                packet.pts = packet.dts = i * (packet.duration or 1)
                packet.stream = out
                trial.mux(packet)
    except FAULTS:
        return False
    return True


def _stream(source: InputContainer, index: int) -> av.AudioStream:
    sound = source.streams[index]
    # Of a stream whose codec is unknown there is no context, whatever the types say.
    if getattr(sound, "codec_context", None) is None:
        raise ValueError("its codec is unknown")
    assert isinstance(sound, av.AudioStream)
    return sound


class Soundtrack:
    """Copies an audio stream of a video, packet by packet, alongside the frames.

    Codecs that browsers play are copied unchanged, with time stamps that rise; others (PCM, Vorbis,
    AC-3, ...) are encoded as AAC, with times that count the samples. Sound that is broken adds what
    can be read of it.

    Args:
        source: the video, opened a second time for its sound; the caller closes it.
        target: the file to write to, before its first frame is written.
        choice: see `choose_sound`.
        start: the time in `source`, in seconds, that is 0 in `target`.
        jumps: of the file's times; see `VideoFile.jumps`, which grows while it is read.
        length: of the pictures in seconds, where it is known.

    Attributes:
        fault: why some of the sound is missing; None if it is not.
    """

    def __init__(
        self,
        source: InputContainer,
        target: OutputContainer,
        choice: SoundChoice,
        start: Fraction,
        jumps: Sequence[Jump] = (),
        length: Fraction | None = None,
    ) -> None:
        self._target = target
        self._times = _FilmTimes(start, jumps, length or Fraction(0))
        self.fault: str | None = None
        self._ahead: av.Packet[av.AudioStream] | None = None
        sound = _stream(source, choice.stream)
        self._packets = self._read(source, sound)
        self._track: _Copy | _Encoding
        if choice.is_copied:
            self._track = _Copy(target.add_stream_from_template(sound), sound)
        else:
            self._track = _Encoding(target, sound)

    def copy_until(self, time: Fraction | None) -> None:
        """Write the sound that starts before a time.

        To be called before each frame is written, so that sound and pictures lie next to each
        other in the file.

        Args:
            time: seconds in `target`; None for all sound that is left.
        """
        while True:
            if self._ahead is None:
                self._ahead = next(self._packets, None)
            packet = self._ahead
            if packet is None:
                break
            at = self._times.in_film(_time(packet))
            if time is not None and at is not None and at >= time:
                return
            self._ahead = None
            self._times.pass_by(_time(packet))
            self._write(packet)
        if time is None:
            self._write(None)

    def _write(self, packet: av.Packet[av.AudioStream] | None) -> None:
        try:
            written = list(self._track.take(packet, self._times))
        except FAULTS as error:
            self.fault = self.fault or _reason(error)
            return
        for out in written:
            try:
                self._target.mux(out)
            except (av.error.InvalidDataError, av.error.ArgumentError) as error:
                self.fault = self.fault or _reason(error)  # other errors are those of the disk

    def _read(
        self, source: InputContainer, sound: av.AudioStream
    ) -> Iterator[av.Packet[av.AudioStream]]:
        try:
            yield from (packet for packet in source.demux(sound) if packet.size)
        except FAULTS as error:  # the rest of the sound is lost, but not the pictures
            self.fault = self.fault or _reason(error)


class _FilmTimes:
    """Turns the times of a file's sound into those of the film, which closes the file's jumps.

    A gap of the sound alone is believed up to the end of the pictures.
    """

    def __init__(self, start: Fraction, jumps: Sequence[Jump], length: Fraction) -> None:
        self._start = start
        self._length = length
        self._jumps = jumps
        self._n_passed = 0
        self._jumped = self._last = Fraction(0)

    def in_film(self, time: Fraction | None) -> Fraction | None:
        """Return the time in the film, in seconds, of the next packet or frame."""
        if time is None:
            return None
        time -= self._start
        for jump in self._jumps[self._n_passed :]:
            step, jumped = time - self._last, jump.after - jump.before
            if abs(step - jumped) >= abs(step):  # the sound has not come to it
                break
            self._pass_over(jumped)
            self._n_passed += 1
        gap = time - self._last
        if gap > MAX_GAP_SECONDS and time - self._jumped > self._length + MAX_GAP_SECONDS:
            self._pass_over(gap)
        return time - self._jumped

    def _pass_over(self, jumped: Fraction) -> None:
        self._jumped += jumped
        self._last += jumped

    def pass_by(self, time: Fraction | None) -> None:
        """Note that a packet has been written."""
        if time is not None:
            self._last = time - self._start


class _Copy:
    """Packets as they are, with time stamps that rise."""

    def __init__(self, out: av.AudioStream, sound: av.AudioStream) -> None:
        self._out = out
        self._unit = Fraction(1, sound.codec_context.sample_rate or FALLBACK_SAMPLE_RATE)
        self._last: int | None = None
        self._next = 0

    def take(
        self, packet: av.Packet[av.AudioStream] | None, times: _FilmTimes
    ) -> Iterator[av.Packet[av.AudioStream]]:
        if packet is None:
            return
        duration = round((packet.duration or 0) * (packet.time_base or 0) / self._unit)
        at = times.in_film(_time(packet))
        stamp = self._next if at is None else round(at / self._unit)
        if self._last is not None:  # some files give two packets the same time
            stamp = max(stamp, self._last + 1)
        self._last, self._next = stamp, stamp + duration
        packet.time_base, packet.duration = self._unit, duration
        packet.pts = packet.dts = stamp
        packet.stream = self._out
        yield packet


class _Encoding:
    """Sound that is decoded and encoded as AAC, with times that count its samples."""

    def __init__(self, target: OutputContainer, sound: av.AudioStream) -> None:
        channels = sound.codec_context.layout.nb_channels
        # The usual layout for that number of channels: some files do not name their channels.
        self._layout = f"{channels}c" if 1 <= channels <= MAX_CHANNELS else "stereo"
        self._rate = sound.codec_context.sample_rate
        if self._rate not in (av.Codec(ENCODER, "w").audio_rates or [self._rate]):
            self._rate = FALLBACK_SAMPLE_RATE
        self._out = target.add_stream(ENCODER, rate=self._rate, layout=self._layout)
        self._kind: tuple[str, str, int] | None = None
        self._resampler: av.AudioResampler | None = None
        self._n_samples: int | None = None

    def take(
        self, packet: av.Packet[av.AudioStream] | None, times: _FilmTimes
    ) -> Iterator[av.Packet[av.AudioStream]]:
        if packet is None:
            yield from self._flush()
            return
        for frame in packet.decode():
            at = times.in_film(_time(frame))
            yield from self._resampled(_with_usual_layout(frame), at)

    def _resampled(
        self, frame: av.AudioFrame, at: Fraction | None
    ) -> Iterator[av.Packet[av.AudioStream]]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:  # it may change within a file
            yield from self._drained()
            self._kind = kind
            self._resampler = av.AudioResampler("fltp", self._layout, self._rate)
        if self._n_samples is None:
            self._n_samples = round((at or 0) * self._rate)
        elif at is not None and at - Fraction(self._n_samples, self._rate) > MAX_HOLE_SECONDS:
            yield from self._silence(round(at * self._rate) - self._n_samples)
        frame.pts = None
        assert self._resampler is not None
        for piece in self._resampler.resample(frame):
            yield from self._encoded(piece)

    def _silence(self, n: int) -> Iterator[av.Packet[av.AudioStream]]:
        channels = av.AudioLayout(self._layout).nb_channels
        for begun in range(0, n, self._rate):
            samples = np.zeros((channels, min(self._rate, n - begun)), np.float32)
            yield from self._encoded(_to_frame(samples, "fltp", self._layout, self._rate))

    def _encoded(self, frame: av.AudioFrame) -> Iterator[av.Packet[av.AudioStream]]:
        assert self._n_samples is not None
        frame.pts, frame.time_base = self._n_samples, Fraction(1, self._rate)
        self._n_samples += frame.samples
        yield from self._out.encode(frame)

    def _drained(self) -> Iterator[av.Packet[av.AudioStream]]:
        if self._resampler is not None:
            for piece in self._resampler.resample(None):
                yield from self._encoded(piece)

    def _flush(self) -> Iterator[av.Packet[av.AudioStream]]:
        yield from self._drained()
        yield from self._out.encode(None)


def _with_usual_layout(frame: av.AudioFrame) -> av.AudioFrame:
    """Give unnamed channels their usual names, or mix them to one if there are too many."""
    channels = frame.layout.nb_channels
    is_named = not frame.layout.name.endswith("channels")
    if is_named and channels <= MAX_CHANNELS:
        return frame
    values: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    if channels > MAX_CHANNELS:
        values, layout = np.stack([values.mean(axis=0)] * 2).astype(values.dtype), "stereo"
    else:
        layout = f"{channels}c"
    name = frame.format.planar.name
    return _to_frame(np.ascontiguousarray(values), name, layout, frame.sample_rate)


def _to_frame(samples: NDArray[Any], form: str, layout: str, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples, format=form, layout=layout)
    frame.sample_rate = rate
    return frame


def _time(stamped: av.Packet[av.AudioStream] | av.AudioFrame) -> Fraction | None:
    """Return the time of a packet or a frame in its file, in seconds."""
    if stamped.pts is None or stamped.time_base is None:
        return None
    return stamped.pts * stamped.time_base


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
