"""Video files: every frame of the right size, at the right time, in the right colours."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from support import photo

from unisal.errors import UserError
from unisal.writing import video_writer
from unisal.writing.video_writer import VideoWriter, as_rate

SIZE = (64, 96)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "film.mp4"


def flat(colour, size=SIZE):
    return np.full((*size, 3), colour, np.uint8)


def write(path, frames, fps=25, **options):
    with VideoWriter(path, fps, frames[0].shape[:2], **options) as writer:
        for frame in frames:
            writer.write(frame)


def read(path):
    """Decode the frames of a file."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def to_rgb(frame):
    """Decode 4:2:0 by the definition of BT.709, limited range."""
    height, width = frame.height, frame.width
    planes = frame.to_ndarray().astype(float)
    y = (planes[:height] - 16) / 219
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    cb, cr = ((np.kron(c, np.ones((2, 2))) - 128) / 224 for c in chroma)
    red = y + 2 * (1 - 0.2126) * cr
    blue = y + 2 * (1 - 0.0722) * cb
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    return np.stack([red, green, blue], axis=-1) * 255


def test_all_frames_are_there_in_order(path):
    levels = [10 * i for i in range(23)]
    write(path, [flat(level) for level in levels])
    means = [to_rgb(frame).mean() for frame in read(path)]
    assert means == pytest.approx(levels, abs=3)
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert stream.frames == 23
        assert stream.average_rate == 25
        assert stream.duration * stream.time_base == Fraction(23, 25)
        assert container.duration == 23 / 25 * av.time_base


def test_it_is_what_browsers_play(path):
    write(path, [photo(SIZE)] * 3)
    with av.open(str(path)) as container:
        assert "mp4" in container.format.name
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.profile) == ("h264", "yuv420p", "High")
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_colours_are_bt709_and_said_to_be(path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (120, 60, 200)]
    write(path, [flat(colour) for colour in colours])
    for frame, colour in zip(read(path), colours, strict=True):
        assert np.abs(to_rgb(frame) - colour).max() <= 3
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.color_primaries, codec.color_trc, codec.colorspace) == (1, 1, 1)
        assert codec.color_range == 1  # limited


def test_pictures_look_like_what_was_written(path):
    frames = [photo(SIZE, seed) for seed in range(4)]
    write(path, frames)
    for decoded, frame in zip(read(path), frames, strict=True):
        assert np.abs(to_rgb(decoded) - frame).mean() < 3


@pytest.mark.parametrize("size", [(64, 95), (63, 96), (63, 95), (1, 1)])
def test_an_odd_side_gets_one_more_line_like_the_last(path, size):
    frame = np.repeat(np.repeat(np.arange(size[0])[:, None], size[1], 1)[:, :, None], 3, 2) * 3
    write(path, [frame.astype(np.uint8)], crf=10)
    (decoded,) = read(path)
    assert (decoded.height, decoded.width) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    pixels = to_rgb(decoded)
    assert np.abs(pixels[: size[0], : size[1]] - frame).max() <= 8
    assert np.abs(pixels[-1] - frame[-1, 0]).max() <= 8


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (30, Fraction(30)),
        (12.5, Fraction(25, 2)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (30000 / 1001, Fraction(30000, 1001)),
    ],
)
def test_rates_need_not_be_whole(path, fps, rate):
    assert as_rate(fps) == rate
    write(path, [flat(0)] * 5, fps)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert stream.duration * stream.time_base == 5 / rate


def test_frames_can_have_times_of_their_own(path):
    times, last = [0, 33, 133, 183, 213, 1213], 250
    with VideoWriter(path, 30, SIZE, time_base=Fraction(1, 1000)) as writer:
        for i, pts in enumerate(times):
            writer.write(flat(40 * i), pts, duration=last if pts == times[-1] else None)
    frames = read(path)
    assert [frame.time for frame in frames] == pytest.approx([t / 1000 for t in times], abs=1e-6)
    assert [to_rgb(frame).mean() for frame in frames] == pytest.approx(range(0, 240, 40), abs=3)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx((times[-1] + last) / 1000)


def test_the_last_frame_is_as_long_as_the_one_before(path):
    with VideoWriter(path, 30, SIZE, time_base=Fraction(1, 100)) as writer:
        for pts in (0, 10, 50):
            writer.write(flat(0), pts)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(0.9)


def test_a_lower_quality_makes_a_smaller_file(tmp_path):
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 255, (4, *SIZE, 3), dtype=np.uint8))
    for crf in (10, 40):
        write(tmp_path / f"{crf}.mp4", frames, crf=crf)
    assert (tmp_path / "40.mp4").stat().st_size < (tmp_path / "10.mp4").stat().st_size / 2


# ---- what goes wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("n_frames", [0, 1, 80])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_video_leaves_what_was_there(path, error, n_frames, existed):
    path.parent.mkdir()
    if existed:
        path.write_text("old")

    def fail():
        with VideoWriter(path, 25, SIZE) as writer:
            for _ in range(n_frames):
                writer.write(flat(0))
            raise error

    with pytest.raises(error):
        fail()
    assert [p.read_text() for p in path.parent.iterdir()] == (["old"] if existed else [])


def test_it_appears_only_once_it_is_complete(path):
    with VideoWriter(path, 25, SIZE) as writer:
        writer.write(flat(0))
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]


def test_a_video_without_frames_is_refused(path):
    with pytest.raises(ValueError, match="no frame"), VideoWriter(path, 25, SIZE):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "frame",
    [flat(0, (64, 95)), np.zeros((*SIZE, 3), np.float32), np.zeros(SIZE, np.uint8)],
    ids=["size", "dtype", "channels"],
)
def test_a_frame_of_another_kind_is_refused(path, frame):
    with VideoWriter(path, 25, SIZE) as writer:
        writer.write(flat(0))
        with pytest.raises(ValueError, match="frame 2 is"):
            writer.write(frame)


def test_times_have_to_rise(path):
    with VideoWriter(path, 25, SIZE, time_base=Fraction(1, 1000)) as writer:
        writer.write(flat(0), 40)
        with pytest.raises(ValueError, match="40"):
            writer.write(flat(0), 40)
        with pytest.raises(ValueError, match="time_base"):
            writer.write(flat(0))


def test_times_need_a_unit(path):
    with VideoWriter(path, 25, SIZE) as writer:
        with pytest.raises(ValueError, match="time_base"):
            writer.write(flat(0), 1)
        writer.write(flat(0))


@pytest.mark.parametrize("fps", [0, -1, "fast", None, float("inf"), float("nan"), 1e-9])
def test_a_rate_has_to_be_a_number_above_zero(path, fps):
    with pytest.raises(UserError, match="fps is"):
        VideoWriter(path, fps, SIZE)


@pytest.mark.parametrize("crf", [0, 52, 20.5, "good"])
def test_a_quality_has_to_make_sense(path, crf):
    with pytest.raises(UserError, match="crf is"):
        VideoWriter(path, 25, SIZE, crf)


def test_other_kinds_of_file_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"film\.avi has to end in \.mp4"):
        VideoWriter(tmp_path / "film.avi", 25, SIZE)


def test_an_encoder_that_is_missing_is_named(path, monkeypatch):
    monkeypatch.setattr(video_writer, "ENCODER", "no_such_encoder")
    with pytest.raises(UserError, match="no_such_encoder"):
        write(path, [flat(0)])
    assert list(path.parent.iterdir()) == []
