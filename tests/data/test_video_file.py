"""Reading video files: kinds, times, orientation, colours, and what is cut off or broken."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image, features
from videos import decode, number_of, numbered, turn, write_clip

from unisal.data import video_file
from unisal.data.video_file import VideoFile
from unisal.errors import UserError

N = 12
KINDS = [
    # file, encoder, largest mean error of a colour
    ("h264.mp4", "libx264", 4),
    ("h264.mov", "libx264", 4),
    ("h264.ts", "libx264", 4),
    ("hevc.mkv", "libx265", 4),
    ("vp9.webm", "libvpx-vp9", 4),
    ("av1.mkv", "libsvtav1", 4),
    ("mpeg4.avi", "mpeg4", 8),
    ("mjpeg.avi", "mjpeg", 8),
]


def read(path):
    """Return the opened file, its frames and their times."""
    with VideoFile(path) as video:
        frames = list(video)
    return video, [f.rgb for f in frames], [f.time for f in frames]


@pytest.mark.parametrize(("name", "codec", "tolerance"), KINDS, ids=[k[0] for k in KINDS])
def test_every_common_kind_is_read(tmp_path, name, codec, tolerance):
    frames = numbered(N)
    video, decoded, times = read(write_clip(tmp_path / name, frames, codec))
    assert [number_of(rgb) for rgb in decoded] == list(range(N))
    assert video.size == (64, 96) and video.rate == 25 and video.damage is None
    assert video.n_frames in (N, N + 1)  # AVI counts a frame that is empty
    assert abs(video.length - Fraction(N, 25)) <= Fraction(1, 25)
    for i, (ours, theirs) in enumerate(zip(decoded, frames, strict=True)):
        assert ours.shape == (64, 96, 3) and ours.dtype == np.uint8
        assert np.abs(ours.astype(int) - theirs).mean() < tolerance
        assert abs(times[i] - times[0] - Fraction(i, 25)) <= Fraction(1, 1000)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_keep_their_times_at_a_variable_rate(tmp_path, name):
    times = [0, 40, 50, 130, 400, 401, 1000]
    path = write_clip(
        tmp_path / name, numbered(len(times)), times=[*times, 1250], encoder={"bf": "0"}
    )
    with VideoFile(path) as video:
        frames = list(video)
    assert [f.time for f in frames] == [Fraction(t, 1000) for t in times]
    assert video.end == Fraction(5, 4) and video.damage is None


ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda a: a),
    "90 clockwise": ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
    "180": ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
    "90 counterclockwise": ((0, -1, 1, 0), lambda a: np.rot90(a)),
    "left and right": ((-1, 0, 0, 1), np.fliplr),
    "up and down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda a: a.swapaxes(0, 1)),
    "transposed and 180": ((0, -1, -1, 0), lambda a: np.rot90(a.swapaxes(0, 1), 2)),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_orientation_is_applied(tmp_path, name):
    matrix, meant = ORIENTATIONS[name]
    path = write_clip(tmp_path / "a.mp4", numbered(3))
    stored, _ = decode(path)
    turn(path, matrix)
    video, frames, _ = read(path)
    assert len(frames) == 3
    for ours, theirs in zip(frames, stored, strict=True):
        np.testing.assert_array_equal(ours, meant(theirs))
    assert video.size == frames[0].shape[:2]


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_need_not_be_square(tmp_path, turned):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        frame = av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    if turned:
        turn(path, (0, 1, -1, 0))
    assert read(path)[0].pixel_aspect == (Fraction(3, 4) if turned else Fraction(4, 3))


@pytest.mark.parametrize(
    ("matrix", "full_range"),
    [("ITU601", False), ("ITU709", False), ("ITU709", True)],
)
def test_colours_are_read_as_the_file_says(tmp_path, matrix, full_range):
    numbers = {"ITU601": 6, "ITU709": 1}
    colours = np.zeros((64, 96, 3), np.uint8)
    colours[:32, :48], colours[:32, 48:] = (200, 40, 90), (30, 180, 60)
    colours[32:, :48], colours[32:, 48:] = (40, 60, 210), (128, 128, 128)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.colorspace = numbers[matrix]
        stream.codec_context.color_range = 2 if full_range else 1
        frame = av.VideoFrame.from_ndarray(colours, format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=matrix, dst_color_range=2 if full_range else 1
        )
        container.mux([*stream.encode(frame), *stream.encode(None)])
    (rgb,) = read(path)[1]
    for y, x in [(16, 24), (16, 72), (48, 24), (48, 72)]:
        assert np.abs(rgb[y, x].astype(int) - colours[y, x]).max() <= 3


def test_a_stream_without_times_that_changes_its_size(tmp_path):
    # Raw H.264 holds neither times nor a length, and may go on at another size.
    for name, size in (("one.h264", (64, 96)), ("two.h264", (48, 96))):
        write_clip(tmp_path / name, numbered(5, size))
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join((tmp_path / n).read_bytes() for n in ("one.h264", "two.h264")))
    video, frames, times = read(both)
    assert [rgb.shape for rgb in frames] == [(64, 96, 3)] * 10
    assert [number_of(rgb) for rgb in frames] == [0, 1, 2, 3, 4] * 2
    assert all(a < b for a, b in pairwise(times))
    assert video.damage is None


def test_it_can_be_left_in_the_middle(tmp_path):
    path = write_clip(tmp_path / "a.mp4", numbered(N))
    with VideoFile(path) as video:
        assert [number_of(f.rgb) for f in islice(video, 3)] == [0, 1, 2]
    with VideoFile(path) as video:
        pass


@pytest.mark.parametrize("name", ["a:b.mp4", "100 %d.mp4", "ümläut [1].mp4", "no_suffix"])
def test_a_file_may_have_any_name(tmp_path, monkeypatch, name):
    write_clip(tmp_path / "a.mp4", numbered(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name))[1]) == 3


# ---- which stream -------------------------------------------------------------------------

COVER, DEFAULT = Disposition.attached_pic, Disposition.default
STREAMS = {
    # size, frames, disposition of each; the number of the film
    "a thumbnail before it": ([((32, 48), 1, 0), ((64, 96), N, DEFAULT)], 1),
    "a thumbnail that is the default": ([((32, 48), 1, DEFAULT), ((64, 96), N, 0)], 1),
    "a large still": ([((128, 192), 1, 0), ((64, 96), N, 0)], 1),
    "a cover": ([((128, 192), 1, COVER), ((64, 96), N, 0)], 1),
    "the default is not the largest": ([((128, 192), N, 0), ((64, 96), N, DEFAULT)], 1),
    "the larger one": ([((32, 48), N, DEFAULT), ((64, 96), N, DEFAULT)], 1),
    "the longer one": ([((64, 96), 3, DEFAULT), ((64, 96), N, DEFAULT)], 1),
    "all alike": ([((64, 96), N, 0), ((64, 96), N, 0)], 0),
}


@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])
@pytest.mark.parametrize("kind", STREAMS)
def test_the_stream_of_the_film_is_taken(tmp_path, kind, name):
    streams, film = STREAMS[kind]
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        made = []
        for size, _, disposition in streams:
            stream = container.add_stream("mjpeg", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuvj420p"
            stream.disposition = Disposition(disposition)
            made.append(stream)
        for i, (stream, (size, n, _)) in enumerate(zip(made, streams, strict=True)):
            for rgb in numbered(n, size):
                shown = 255 - rgb if i != film else rgb
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    video, frames, _ = read(path)
    assert video.size == streams[film][0]
    assert [number_of(rgb) for rgb in frames] == list(range(streams[film][1]))


@pytest.mark.parametrize("name", ["a.gif", "a.avif", "a.png"])
def test_animated_pictures_give_all_their_frames(tmp_path, name):
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    first, *others = map(Image.fromarray, numbered(10))
    path = tmp_path / ("a.apng" if name == "a.png" else name)
    options = {"format": "PNG"} if name == "a.png" else {}
    first.save(path, save_all=True, append_images=others, duration=100, **options)
    _, frames, times = read(path)
    assert [number_of(rgb) for rgb in frames] == list(range(10))
    assert [t - times[0] for t in times] == [Fraction(i, 10) for i in range(10)]


# ---- times that cannot be -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
@pytest.mark.parametrize("jump", [3_600_000, 700_000])
def test_a_clock_that_jumps_is_set_right(tmp_path, name, jump):
    times = [40 * i + (jump if i >= 5 else 0) for i in range(N + 1)]
    path = write_clip(tmp_path / name, numbered(N), times=times, encoder={"bf": "0"})
    video, frames, found = read(path)
    assert [number_of(rgb) for rgb in frames] == list(range(N))
    assert [t - found[0] for t in found] == [Fraction(40 * i, 1000) for i in range(N)]
    assert video.end - found[0] == Fraction(40 * N, 1000)
    assert video.damage.startswith(f"{path} has a gap of ") and "closed up" in video.damage
    assert len(video.jumps) == 1
    assert abs(video.n_frames - N) <= 1, "the jump counts no more"


def test_a_clock_that_is_set_back_is_set_right(tmp_path):
    for name in ("a.ts", "b.ts"):
        times = [1000 * i for i in range(15)]
        write_clip(tmp_path / name, numbered(14), times=times, encoder={"bf": "0"})
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join((tmp_path / name).read_bytes() for name in ("a.ts", "b.ts")))
    video, frames, times = read(both)
    assert [number_of(rgb) for rgb in frames] == [*range(14)] * 2
    assert all(0 < b - a <= 1 for a, b in pairwise(times))
    assert "has a gap of" in video.damage


def test_pictures_that_are_held_for_a_while_stay_so(tmp_path):
    times = [0, 40, 80, 50_000, 50_040, 100_000]
    for name, bounded in (("a.mkv", False), ("a.mp4", False), ("a.ts", True)):
        path = write_clip(tmp_path / name, numbered(5), times=times, encoder={"bf": "0"})
        video, _, found = read(path)
        shown = [t - found[0] for t in found]
        if not bounded:
            assert shown == [Fraction(t, 1000) for t in times[:-1]] and video.damage is None
        else:
            assert shown == [Fraction(40 * i, 1000) for i in range(5)]


@pytest.mark.parametrize(("codec", "b_frames"), [("libx264", 0), ("libx264", 3), ("mpeg4", 2)])
def test_avi_shows_its_frames_one_by_one(tmp_path, codec, b_frames):
    path = write_clip(tmp_path / "a.avi", numbered(N), codec, encoder={"bf": str(b_frames)})
    video, frames, times = read(path)
    assert [number_of(rgb) for rgb in frames] == list(range(N))
    assert times == [Fraction(i, 25) for i in range(N)]
    assert video.end == Fraction(N, 25) and video.damage is None


def test_avi_that_starts_late_does_not_hold_its_first_frame(tmp_path):
    # As FFmpeg writes it: the first frame, empty packets as long as the film is late, the others.
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuvj420p"
        for i, rgb in enumerate(numbered(N)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = i + 2 if i else 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, frames, times = read(path)
    assert [number_of(rgb) for rgb in frames] == list(range(N))
    assert times == [Fraction(i + 2, 25) for i in range(N)]


# ---- broken files -------------------------------------------------------------------------

CUT = [
    ("a.mp4", "libx264", {"movflags": "faststart"}),
    ("a.mkv", "libx264", {}),
    ("a.webm", "libvpx-vp9", {}),
]


@pytest.mark.parametrize(("name", "codec", "container"), CUT, ids=[c[0] for c in CUT])
def test_a_file_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path, name, codec, container):
    path = write_clip(tmp_path / name, numbered(50), codec, container=container)
    assert read(path)[0].damage is None
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    video, frames, _ = read(path)
    assert 5 < len(frames) < 50
    # B-frames at the cut may lack a frame that they need.
    numbers = [number_of(rgb) for rgb in frames]
    assert numbers[:-4] == list(range(len(frames) - 4))
    assert f"is cut off after {len(frames)} frames" in video.damage
    assert str(path) in video.damage and "of 2.00 s" in video.damage


def test_a_hole_costs_some_frames_and_is_told(tmp_path):
    path = write_clip(tmp_path / "a.mp4", numbered(50), encoder={"g": "5"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    video, frames, _ = read(path)
    assert 30 < len(frames) < 50
    assert number_of(frames[0]) == 0 and number_of(frames[-1]) == 49
    assert str(path) in video.damage and "could not be read" in video.damage


def no_index(path):
    """An MP4 file without its end, where the index is."""
    data = write_clip(path, numbered(20)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def sound_alone(path):
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = np.zeros((1, 800), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])


BROKEN = {
    "missing": (lambda _: None, "does not exist"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "text": (lambda path: path.write_text("hello"), "cannot be read as a video"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as a video"),
    "no index": (no_index, "cannot be read as a video: Invalid data"),
    "sound": (sound_alone, "holds no video"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_video_is_named(tmp_path, kind):
    make, words = BROKEN[kind]
    path = tmp_path / "broken.mp4"
    make(path)
    with pytest.raises(UserError) as refused:
        VideoFile(path)
    assert str(path) in str(refused.value) and words in str(refused.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_title_that_is_no_text_does_not_cost_the_film(tmp_path, name):
    path = tmp_path / name
    with av.open(path, "w") as container:
        container.metadata["title"] = "TITLE-OF-THE-FILM"
        stream = container.add_stream("mpeg4", 25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for rgb in numbered(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb)))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert b"TITLE-OF-THE-FILM" in content
    path.write_bytes(content.replace(b"TITLE-OF-THE-FILM", b"TITLE-\xe9\xff-THE-FILM"))
    _, frames, _ = read(path)
    assert [number_of(rgb) for rgb in frames] == [0, 1, 2]


ODD_ERRORS = [
    TypeError("odd"),
    MemoryError(),
    KeyError("odd"),
    AssertionError(),
    RuntimeError("odd"),
]


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["frame_to_rgb", "_matrix", "_rate", "start_time"])
def test_whatever_goes_wrong_inside_is_that_films_failure(tmp_path, monkeypatch, place, error):
    def fail(*_):
        raise error

    path = write_clip(tmp_path / "a.mkv", numbered(3))
    monkeypatch.setattr(video_file, place, fail)
    with pytest.raises(UserError, match=rf"^{path} .*{type(error).__name__}") as refused:
        VideoFile(path)
    assert "\n" not in str(refused.value)


def test_a_frame_that_cannot_be_converted_costs_that_frame(tmp_path, monkeypatch):
    convert, n = video_file.frame_to_rgb, iter(range(6))

    def sometimes(*args):
        if next(n) in (1, 4):
            raise MemoryError
        return convert(*args)

    path = write_clip(tmp_path / "a.mkv", numbered(6), codec="ffv1")
    monkeypatch.setattr(video_file, "frame_to_rgb", sometimes)
    video, frames, _ = read(path)
    assert [number_of(rgb) for rgb in frames] == [0, 2, 3, 5]
    assert "2 parts could not be read (MemoryError)" in video.damage


def test_a_url_that_nobody_answers_is_named():
    with pytest.raises(UserError, match="rtsp://127"):
        VideoFile("rtsp://127.0.0.1:9/nothing")
