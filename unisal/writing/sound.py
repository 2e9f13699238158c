"""The sound of a video, copied into the MP4 file that is made from it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import av
from av.container import InputContainer, OutputContainer

COPIED_CODECS = frozenset({"aac", "mp3", "opus", "flac"})
"""Codecs that browsers play in an MP4 file, by FFmpeg's names; all others are re-encoded."""
ENCODER: Final = "aac"
FALLBACK_SAMPLE_RATE = 48_000
"""Samples per second, for sound that is re-encoded and whose own rate AAC does not support."""


class Soundtrack:
    """Copies the first audio stream of a video, packet by packet, alongside the frames.

    Codecs that browsers play are copied unchanged; others (PCM, Vorbis, AC-3, ...) are encoded as
    AAC. A video without sound adds nothing, and broken sound ends where it breaks.

    Args:
        source: the video, opened a second time for its sound; the caller closes it.
        target: the file to write to, before its first frame is written.
        start: the time in `source`, in seconds, that becomes 0 in `target`.

    Attributes:
        fault: why the sound ends early; None if it does not.
    """

    def __init__(self, source: InputContainer, target: OutputContainer, start: Fraction) -> None:
        self._target = target
        self._start = start
        self.fault: str | None = None
        self._ahead: av.Packet[av.AudioStream] | None = None
        self._packets: Iterator[av.Packet[av.AudioStream]] = iter(())
        if not source.streams.audio:
            return
        self._sound = source.streams.audio[0]
        self._copied = self._sound.codec_context.codec.canonical_name in COPIED_CODECS
        if self._copied:
            self._out = target.add_stream_from_template(self._sound)
        else:
            # The usual layout for that number of channels, since some files do not name theirs.
            layout = f"{self._sound.codec_context.layout.nb_channels}c"
            rate = self._sound.codec_context.sample_rate
            if rate not in (av.Codec(ENCODER, "w").audio_rates or [rate]):
                rate = FALLBACK_SAMPLE_RATE
            self._out = target.add_stream(ENCODER, rate=rate, layout=layout)
        self._packets = self._read(source)

    def copy_until(self, time: Fraction | None) -> None:
        """Write the sound that starts before a time.

        It has to be called before each frame is written, so that sound and pictures are next to
        each other in the file.

        Args:
            time: seconds in `target`; None for all sound that is left.
        """
        while True:
            if self._ahead is None:
                self._ahead = next(self._packets, None)
            packet = self._ahead
            if packet is None:
                return
            assert packet.pts is not None and packet.time_base is not None
            if time is not None and packet.pts * packet.time_base >= time:
                return
            packet.stream = self._out
            self._target.mux(packet)
            self._ahead = None

    def _read(self, source: InputContainer) -> Iterator[av.Packet[av.AudioStream]]:
        """Yield the packets to write, with times that count from `start`."""
        try:
            for packet in source.demux(self._sound):
                if self._copied and packet.pts is not None and packet.dts is not None:
                    assert packet.time_base is not None
                    shift = round(self._start / packet.time_base)
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    yield packet
                elif not self._copied:
                    yield from self._encoded(packet)
        except av.FFmpegError as error:  # the rest of the sound is lost, but not the pictures
            self.fault = error.strerror or str(error)
        if not self._copied:
            yield from self._out.encode(None)

    def _encoded(self, packet: av.Packet[av.AudioStream]) -> Iterator[av.Packet[av.AudioStream]]:
        """Re-encode a packet; yield the packets that the encoder makes of it."""
        for frame in packet.decode():
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(self._start / frame.time_base)
            yield from self._out.encode(frame)
