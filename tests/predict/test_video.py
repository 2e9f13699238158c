"""Saliency of a video in memory: against one frame after the other, for every kind of frames."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plain_video import plain_input, plain_video
from support import PROJECT, lively_network, photo
from videos import decode, numbered, write_clip

from unisal.data.video_file import VideoFile
from unisal.errors import UserError
from unisal.predict import Predictor
from unisal.predict.presets import Preset, find_preset

SIZE = (40, 70)
TOLERANCE = 5e-5


INPUT_SIZE = Preset.input_size_for


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    """The network sees 64 x 96 pixels instead of ten times as many."""
    monkeypatch.setattr(Preset, "input_size_for", lambda *_: (64, 96))


@pytest.fixture
def real_input(monkeypatch):
    monkeypatch.setattr(Preset, "input_size_for", INPUT_SIZE)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(lively_network(), "cpu")


@pytest.fixture(scope="module")
def frames():
    return [photo(SIZE, seed) for seed in range(13)]


def plain_maps(model, frames, domain, step, static=False, input_size=(64, 96)):
    inputs = [plain_input(rgb, input_size) for rgb in frames]
    return plain_video(model, inputs, frames[0].shape[:2], domain, step, static).numpy()


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


# ---- the numbers --------------------------------------------------------------------------


RULES = [
    # source, domain, frame step, static
    ("DHF1K", "DHF1K", 5, False),
    ("Hollywood", "Hollywood", 4, False),
    ("UCFSports", "UCFSports", 4, False),
    ("SALICON", "SALICON", 4, True),
    ("MIT1003", "SALICON", 4, True),
    ("MIT300", "SALICON", 4, True),
]


@pytest.mark.parametrize(("source", "domain", "step", "static"), RULES)
def test_a_video_equals_its_frames_one_by_one(predictor, frames, source, domain, step, static):
    maps = list(predictor.video(frames, source, log=True))
    assert all(y.dtype == np.float32 and y.shape == SIZE for y in maps)
    assert_same(maps, plain_maps(predictor.engine.model, frames, domain, step, static=static))


def test_the_comparison_can_fail(predictor, frames):
    model = predictor.engine.model
    maps = [
        plain_maps(model, frames, "DHF1K", step, static=static)
        for step, static in [(5, False), (4, False), (5, True)]
    ] + [plain_maps(model, frames[1:] + frames[:1], "DHF1K", 5)]
    for other in maps[1:]:
        assert np.abs(maps[0] - other)[6:12].max((1, 2)).min() > 100 * TOLERANCE


def test_densities_are_the_default(predictor, frames):
    logs = list(predictor.video(frames, log=True))
    for density, log_density in zip(predictor.video(frames), logs, strict=True):
        assert density.dtype == np.float32 and density.shape == SIZE
        assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(density, np.exp(log_density), rtol=1e-5)


@pytest.mark.parametrize("n", range(8))
def test_a_video_may_be_short(predictor, frames, n):
    maps = list(predictor.video(frames[:n], log=True))
    assert len(maps) == n
    if n:
        assert_same(maps, plain_maps(predictor.engine.model, frames[:n], "DHF1K", 5))


def test_domain_and_step_can_be_chosen(predictor, frames):
    maps = list(predictor.video(frames, "DHF1K", domain="UCFSports", frame_step=3, log=True))
    assert_same(maps, plain_maps(predictor.engine.model, frames, "UCFSports", 3))
    maps = list(predictor.video(frames, "DHF1K", domain="SALICON", log=True))
    assert_same(maps, plain_maps(predictor.engine.model, frames, "SALICON", 5, static=True))


def test_an_unknown_domain_falls_back_with_one_warning(frames, caplog):
    predictor = Predictor(lively_network(sources=("UCFSports", "SALICON")), "cpu")
    expected = plain_maps(predictor.engine.model, frames, "UCFSports", 5)
    for options in ({}, {"domain": "nope"}):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert_same(list(predictor.video(frames, log=True, **options)), expected)
        (warning,) = [r.getMessage() for r in caplog.records]
        assert options.get("domain", "DHF1K") in warning and "UCFSports" in warning


def test_a_network_for_images_predicts_the_frames_one_by_one(frames, caplog):
    predictor = Predictor(lively_network(sources=("SALICON",)), "cpu")
    with caplog.at_level(logging.WARNING):
        maps = list(predictor.video(frames, log=True))
    assert_same(maps, plain_maps(predictor.engine.model, frames, "SALICON", 1, static=True))
    assert "DHF1K" in caplog.text


@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_median_over_frames(predictor, frames, window):
    p, half = np.array(list(predictor.video(frames)), np.float64), window // 2
    medians = [np.median(p[max(0, i - half) : i + half + 1], axis=0) for i in range(len(p))]
    maps = list(predictor.video(frames, smooth_method=f"med{window}"))
    logs = list(predictor.video(frames, smooth_method=f"med{window}", log=True))
    assert len(maps) == len(logs) == len(frames)
    for y, log_y, median in zip(maps, logs, medians, strict=True):
        np.testing.assert_allclose(y, median / median.sum(), rtol=1e-4)
        np.testing.assert_allclose(np.exp(log_y), y, rtol=1e-5)


# ---- the size that the network sees -------------------------------------------------------


@pytest.mark.usefixtures("real_input")
@pytest.mark.parametrize(
    ("source", "frame_size", "input_size"),
    [
        ("DHF1K", (360, 640), (224, 384)),
        ("DHF1K", (720, 1280), (256, 416)),
        ("DHF1K", (640, 360), (416, 256)),
        ("Hollywood", (360, 640), (224, 416)),
        ("Hollywood", (100, 100), (224, 416)),
        ("UCFSports", (360, 640), (256, 384)),
        ("UCFSports", (300, 200), (256, 384)),
        ("SALICON", (360, 640), (256, 416)),
        ("SALICON", (480, 640), (288, 384)),
        ("MIT300", (640, 480), (384, 288)),
    ],
)
def test_the_input_size_depends_on_source_and_frames(source, frame_size, input_size):
    assert find_preset(source).input_size_for(frame_size) == input_size


@pytest.mark.usefixtures("real_input")
@pytest.mark.parametrize(("source", "step"), [("DHF1K", 5), ("UCFSports", 4)])
def test_the_network_sees_the_frames_at_that_size(predictor, source, step):
    frames = [photo((360, 640), seed) for seed in range(6)]
    size = find_preset(source).input_size_for((360, 640))
    expected = plain_maps(predictor.engine.model, frames, source, step, input_size=size)
    assert_same(list(predictor.video(frames, source, log=True)), expected)


# ---- the frames ---------------------------------------------------------------------------


def test_arrays_images_and_paths_give_the_same(predictor, frames, tmp_path):
    expected = list(predictor.video(frames))
    paths = [tmp_path / f"{i}.png" for i in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    mixed = [*paths[:4], *map(str, paths[4:6]), *map(Image.fromarray, frames[6:9]), *frames[9:]]
    for same in (mixed, iter(paths), np.stack(frames), tuple(frames), (f for f in frames)):
        np.testing.assert_array_equal(list(predictor.video(same)), expected)


def test_frames_are_taken_only_as_far_as_needed(predictor, frames):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield frames[len(taken) % len(frames)]

    maps = predictor.video(endless(), smooth_method="med3")
    assert taken == []
    for i, _ in enumerate(islice(maps, 25)):
        assert len(taken) == i + 2  # the median looks one ahead


def test_the_frames_stay_as_they_are(predictor, frames):
    before = [f.copy() for f in frames]
    for f in frames:
        f.flags.writeable = False
    list(predictor.video(frames))
    np.testing.assert_array_equal(frames, before)


# ---- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "step"), [(30, 5), (25, 4), (10, 2)])
def test_a_video_file_is_predicted_at_its_own_rate(predictor, tmp_path, rate, step):
    path = write_clip(tmp_path / "clip.mp4", numbered(9), rate=rate)
    shown, _ = decode(path)
    expected = list(predictor.video(shown, frame_step=step, log=True))
    for given in (path, str(path)):
        found = list(predictor.video(given, log=True))
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    other = list(predictor.video(path, log=True, frame_step=np.int64(1)))
    assert not np.allclose(other, expected, atol=10 * TOLERANCE)
    assert_same(other, list(predictor.video(shown, frame_step=1, log=True)))


def test_a_video_file_gives_densities_one_by_one_and_is_closed(predictor, tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", numbered(9))
    closed = []
    close = VideoFile.close
    monkeypatch.setattr(VideoFile, "close", lambda self: (closed.append(self), close(self)))
    maps = predictor.video(path)
    assert next(maps).sum() == pytest.approx(1, abs=1e-5)
    assert not closed
    maps.close()
    assert len(closed) == 1
    assert len(list(predictor.video(path, smooth_method="med3"))) == 9
    assert len(closed) == 2


def test_a_video_file_that_is_cut_off_gives_what_it_has_and_a_warning(predictor, tmp_path, caplog):
    path = write_clip(tmp_path / "clip.mkv", numbered(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        found = list(predictor.video(path))
    assert 0 < len(found) < 60
    assert "clip.mkv is cut off" in caplog.text


def test_a_folder_of_frames_is_in_natural_order(predictor, frames, tmp_path):
    for number, rgb in enumerate(frames, 1):
        Image.fromarray(rgb).save(tmp_path / f"{number}.png")
    expected = list(predictor.video(frames))
    for given in (tmp_path, str(tmp_path)):
        np.testing.assert_array_equal(list(predictor.video(given)), expected)


def test_frames_may_be_of_any_kind(predictor, frames):
    expected = list(predictor.video(frames))
    array = np.stack(frames)
    tensor = torch.from_numpy(array.transpose(0, 3, 1, 2).copy())
    for given in (array, tensor, tensor / 255, array / 255):
        np.testing.assert_array_equal(list(predictor.video(given)), expected)


# ---- what goes wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 7, 12])
def test_a_frame_of_another_size_is_named(predictor, frames, tmp_path, at):
    changed = [*frames[:at], photo((40, 71)), *frames[at + 1 :]]
    with pytest.raises(UserError, match=rf"frame {at + 1} is 40 x 71 .* 40 x 70"):
        list(predictor.video(changed))
    Image.fromarray(changed[at]).save(tmp_path / "odd.png")
    changed[at] = tmp_path / "odd.png"
    with pytest.raises(UserError, match=r"odd\.png is 40 x 71"):
        list(predictor.video(changed))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((40, 70, 2), np.uint8), ["[40, 70, 2]", "[height, width, 3] uint8"]),
        (np.full((40, 70, 3), 255, np.float32), ["float32", "from 0 to 1"]),
        ("missing.png", ["missing.png", "does not exist"]),
        (Image.new("F", (70, 40)), ["'F'"]),
    ],
    ids=["shape", "range", "missing", "mode"],
)
def test_a_bad_frame_is_named(predictor, frames, bad, words):
    with pytest.raises(UserError, match="frame 4") as refused:
        list(predictor.video([*frames[:3], bad, *frames[3:]]))
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "NOPE"}, "'NOPE'.*DHF1K, SALICON, UCFSports, Hollywood, MIT1003, MIT300"),
        ({"frame_step": 0}, "frame_step is 0"),
        ({"frame_step": -1}, "frame_step is -1"),
        ({"frame_step": 2.5}, "frame_step is 2.5"),
        ({"smooth_method": "med4"}, "'med4'"),
        ({"frames": "video.mp4"}, r"video\.mp4 does not exist"),
        ({"frames": Path("video.mp4")}, r"video\.mp4 does not exist"),
        ({"frames": __file__}, r"test_video\.py (cannot be read|holds no)"),
        ({"frames": Path(__file__).parent}, "predict holds no pictures"),
        ({"frames": np.zeros((40, 70, 3), np.uint8)}, r"single picture.*image\(\)"),
        ({"frames": Image.new("RGB", (70, 40))}, r"single picture.*image\(\)"),
        ({"frames": b"..."}, r"single picture.*image\(\)"),
    ],
)
def test_a_wrong_option_is_told_when_called(predictor, options, message):
    def unread():
        pytest.fail("a frame was read")
        yield

    with pytest.raises(UserError, match=message):
        predictor.video(**{"frames": unread(), **options})


def test_damaged_weights_are_not_passed_off_as_a_prediction(frames):
    model = lively_network()
    model.state_dict()["adaptation_dhf1k.0.bias"][:] = float("nan")
    with pytest.raises(UserError, match="frame 1 is not finite"):
        next(Predictor(model, "cpu").video(frames, smooth_method="med3"))


# ---- memory -------------------------------------------------------------------------------

# Runs in a process of its own, since a process tells only its highest memory so far. The frames
# are 1280 x 720 and so are the maps. To be done in time, the network is small and sees 64 x 96
# of a frame's pixels without a proper resize: neither keeps anything from frame to frame but
# the GRU's states. Not measured: reading and writing files.
MEMORY = """
import json, resource, sys
sys.path.insert(0, "tests")
import numpy as np
import torch
from support import TINY
from unisal.model import UNISAL
from unisal.predict import Predictor, predictor
from unisal.predict.presets import Preset

torch.set_num_threads(1)
Preset.input_size_for = lambda *_: (64, 96)
predictor.resize_rgb = lambda rgb, size: rgb[::11, ::13][:64, :96]
rgb = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
frames = (rgb.copy() for _ in range(700))
peaks = {}
maps = Predictor(UNISAL(**TINY), "cpu").video(frames, log=True)
for i, y in enumerate(maps, 1):
    assert y.shape == (720, 1280)
    if i in (100, 400, 700):
        peaks[i] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB on Linux
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_memory_does_not_grow_with_the_video():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert set(peaks) == {"100", "400", "700"}
    # The 600 maps after the first 100 would take 2 GB, their frames 1.6 GB.
    assert peaks["700"] - peaks["100"] < 50, peaks
