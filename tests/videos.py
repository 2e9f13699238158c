"""Small video files for tests, whose frames tell their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support import photo

from unisal.commands.video_files import VideoOptions
from unisal.data.tone_mapping import HLG, PQ

BITS = 8
BAR = 8
"""Height of the bar code at the top of each frame."""
SOUND_RATE, TONE = 48000, 440
QUIET = {"libx265": {"x265-params": "log-level=none"}}
UNIT = Fraction(1, 1000)
BT2020 = 9
"""The number of the matrix, and of the primaries, in ITU-T H.273."""
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""From linear BT.709 to linear BT.2020: Report ITU-R BT.2087, rounded as there."""


def video_options(**changed: Any) -> VideoOptions:
    """Make the options of `predict_video`, those that are not named as by default."""
    default = {
        "out_dir": None,
        "source": "DHF1K",
        "model_domain": None,
        "overlay": True,
        "maps": None,
        "features": None,
        "frame_step": None,
        "smooth_method": None,
        "overwrite": False,
    }
    return VideoOptions(**{**default, **changed})


def numbered(n: int, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Make frames `[H, W, 3] uint8`: a picture that moves, and above it the number of the frame as
    a bar code of black and white blocks."""
    picture, width = photo(size), size[1] // BITS
    frames = []
    for i in range(n):
        frame = np.roll(picture, 2 * i, axis=1)
        for bit in range(BITS):
            frame[:BAR, bit * width : (bit + 1) * width] = 255 * (i >> bit & 1)
        frames.append(frame)
    return frames


def number_of(rgb: np.ndarray) -> int:
    """Read the bar code of a frame."""
    width = rgb.shape[1] // BITS
    return sum(
        int(rgb[2 : BAR - 2, bit * width + 2 : (bit + 1) * width - 2].mean() > 127) << bit
        for bit in range(BITS)
    )


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    rate: int = 25,
    times: Sequence[int] | None = None,
    sound: str | None = None,
    layout: str = "stereo",
    sound_rate: int = SOUND_RATE,
    **options: Any,
) -> Path:
    """Write frames as a video file, of the kind that the suffix says.

    Args:
        times: of the frames in milliseconds, and of the end, instead of the constant rate.
        sound: a codec; adds a tone as long as the video.
        options: `container` and `encoder`, dictionaries of FFmpeg's options.
    """
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options.get("container", {})) as container:
        encoder = {**QUIET.get(codec, {}), **options.get("encoder", {})}
        stream = container.add_stream(codec, rate=rate, options=encoder)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        unit = Fraction(1, rate) if times is None else UNIT
        times = range(len(frames) + 1) if times is None else times
        lengths = {time: end - time for time, end in pairwise(times)}

        def mux_pictures(packets: Sequence[av.Packet]) -> None:
            for packet in packets:  # the encoder says nothing of how long frames are shown
                packet.duration = lengths[packet.pts]
                container.mux(packet)

        stream.codec_context.time_base = unit
        tone = container.add_stream(sound, rate=sound_rate, layout=layout) if sound else None
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = times[i], unit
            mux_pictures(stream.encode(frame))
            if tone is not None:
                container.mux(tone.encode(make_tone(i, SOUND_RATE // rate, layout)))
        mux_pictures(stream.encode(None))
        if tone is not None:
            container.mux(tone.encode(None))
    return path


def make_tone(i: int, n: int, layout: str) -> av.AudioFrame:
    """Make the i-th piece of a tone, `n` samples long."""
    t = (np.arange(n) + i * n) / SOUND_RATE
    wave = (0.3 * np.sin(2 * np.pi * TONE * t)).astype(np.float32)
    channels = av.AudioLayout(layout).nb_channels
    packed = np.repeat(wave, channels)[None]  # PyAV knows planes of eight channels only
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.rate, frame.pts, frame.time_base = SOUND_RATE, i * n, Fraction(1, SOUND_RATE)
    return frame


def decode(path: Path) -> tuple[list[np.ndarray], list[Fraction]]:
    """Read the frames `[H, W, 3] uint8` of a file as stored, and their times in seconds."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    times = [Fraction(f.pts) * f.time_base for f in decoded]
    return [f.to_ndarray(format="rgb24") for f in decoded], times


def decode_sound(path: Path) -> np.ndarray:
    """Read the samples of the first channel, `[n] float`."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", None, SOUND_RATE)
        pieces = [p for f in container.decode(audio=0) for p in resampler.resample(f)]
        pieces += resampler.resample(None)
    return np.concatenate([p.to_ndarray()[0] for p in pieces])


def sound_packets(path: Path) -> list[bytes]:
    """Read the sound as it is stored in the file, encoded."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [bytes(packet) for packet in packets if packet.size]


def retimed(path: Path, out: Path, change: Callable[[str, int, Fraction], Fraction]) -> Path:
    """Write a file's packets to another file, at other times.

    Args:
        change: gets the type of a packet, its number among those of its stream, and its time in
            seconds; returns its new time.
    """
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        counts = dict.fromkeys(streams, 0)
        for packet in source.demux():
            if packet.size:
                index, unit = packet.stream.index, packet.time_base
                old = packet.dts * unit
                shift = round((change(packet.stream.type, counts[index], old) - old) / unit)
                counts[index] += 1
                packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                packet.stream = streams[index]
                target.mux(packet)
    return out


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Have the picture of an `.mp4` shown turned: (a, b, c, d) takes the stored point (x, y) to
    (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    # The matrix of the track header, 16.16 fixed point (ISO 14496-12, "tkhd"): behind the name
    # and version, four times and numbers, a length, and eight other fields of two bytes.
    at = data.index(b"tkhd") + 4 + 4 + 4 * 4 + 4 + 8 + 8
    a, b, c, d = (value << 16 for value in matrix)
    values = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


def write_frames(path, arrays, *, given, stored, codec="ffv1", matrix=None, **tags):
    """Write arrays in FFmpeg's format `given` as a film in the format `stored`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = arrays[0].shape[:2]
        stream.pix_fmt = stored
        for name, number in tags.items():
            setattr(stream.codec_context, name, number)
        for array in arrays:
            frame = av.VideoFrame.from_ndarray(array, format=given)
            container.mux(stream.encode(frame.reformat(format=stored, dst_colorspace=matrix)))
        container.mux(stream.encode(None))
    return path


def to_linear(srgb):
    v = srgb / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def pq(light):
    """Code a brightness in cd/m² by the definition of SMPTE ST 2084."""
    y = (light / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light):
    """Code a brightness in cd/m² of a display with a peak of 1000 by the definition of BT.2100."""
    display = light / 1000
    luminance = np.maximum(display @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = display * luminance ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def write_hdr(path, rgb, transfer, **tags):
    """Write an ordinary picture as an HDR film whose white is the reference white, 203 cd/m²."""
    coded = {PQ: pq, HLG: hlg}[transfer](203 * to_linear(rgb) @ TO_2020.T)
    codes = np.rint(65535 * np.clip(coded, 0, 1)).astype(np.uint16)
    tags = {
        "colorspace": BT2020,
        "color_primaries": BT2020,
        "color_trc": transfer,
        "color_range": 1,
        **tags,
    }
    kinds = {"given": "rgb48le", "stored": "yuv444p10le", "matrix": BT2020}
    return write_frames(path, [codes] * 2, **kinds, **tags)
