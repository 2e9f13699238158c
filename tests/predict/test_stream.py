"""A stream: step by step the numbers of the whole video, dropped frames, shots."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from plain_video import plain_input, plain_video
from support import PROJECT, lively_network, photo, write_run

from unisal.errors import UserError
from unisal.predict import Predictor
from unisal.predict.presets import Preset, find_preset
from unisal.predict.stream import ShotCuts

SIZE, INPUT_SIZE = (40, 70), (64, 96)
TOLERANCE = 4e-5


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    monkeypatch.setattr(Preset, "input_size_for", lambda *_: INPUT_SIZE)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(lively_network(), "cpu")


@pytest.fixture(scope="module")
def frames():
    return [photo(SIZE, seed) for seed in range(13)]


def plain_maps(model, frames, domain, step, **options):
    inputs = [plain_input(rgb, INPUT_SIZE) for rgb in frames]
    return plain_video(model, inputs, frames[0].shape[:2], domain, step, **options).numpy()


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


# ---- the numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["DHF1K", "UCFSports", "SALICON"])
def test_step_by_step_it_gives_the_numbers_of_the_whole_video(predictor, frames, source):
    stream = predictor.stream(find_preset(source).frame_rate, source)
    assert stream.frame_step == find_preset(source).frame_step
    steps = [stream.step(rgb, log=True) for rgb in frames]
    assert all(y.dtype == np.float32 and y.shape == SIZE for y in steps)
    assert_same(steps, list(predictor.video(frames, source, log=True)))


def test_densities_are_the_default(predictor, frames):
    logs, stream = predictor.stream(), predictor.stream()
    for rgb in frames[:6]:
        density = stream.step(rgb)
        assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(density, np.exp(logs.step(rgb, log=True)), rtol=1e-5)


@pytest.mark.parametrize("step", [1, 3])
def test_dropped_frames_are_missed_by_their_own_sequences_alone(predictor, frames, step):
    skipped = [0, 0, 2, 0, 1, 7, 0, 0, 3, 0, 1, 0, 0]
    positions, now = [], -1
    for n in skipped:
        now += n + 1
        positions.append(now)
    stream = predictor.stream(frame_step=step)
    steps = [stream.step(rgb, n, log=True) for rgb, n in zip(frames, skipped, strict=True)]
    model = predictor.engine.model
    assert_same(steps, plain_maps(model, frames, "DHF1K", step, positions=positions))
    if step > 1:  # the comparison can fail
        others = plain_maps(model, frames, "DHF1K", step)
        assert np.abs(np.array(steps) - others)[4:].max((1, 2)).max() > 100 * TOLERANCE


def test_dropping_whole_rounds_is_like_a_video_without_them(predictor, frames):
    # Of 5 sequences, 5 frames dropped are one of each: the next one goes on where it would have.
    stream = predictor.stream(30)
    steps = [stream.step(rgb, 5 if i == 5 else 0, log=True) for i, rgb in enumerate(frames)]
    assert_same(steps, list(predictor.video(frames, log=True)))


def test_it_is_causal(predictor, frames):
    one, other = predictor.stream(), predictor.stream()
    for i, rgb in enumerate(frames[:8]):
        y = one.step(rgb)
        if i < 7:
            np.testing.assert_array_equal(y, other.step(rgb))
    assert np.abs(y - other.step(frames[9])).max() > 1e-6


def test_reset_starts_a_new_video_of_any_size(predictor, frames):
    stream = predictor.stream()
    first = [stream.step(rgb) for rgb in frames[:7]]
    stream.reset()
    np.testing.assert_array_equal([stream.step(rgb) for rgb in frames[:7]], first)
    stream.reset()
    assert stream.step(photo((30, 50))).shape == (30, 50)


def test_two_streams_do_not_disturb_each_other(predictor, frames):
    alone = predictor.stream()
    expected = [alone.step(rgb) for rgb in frames]
    one, other = predictor.stream(), predictor.stream()
    for i, rgb in enumerate(frames):
        np.testing.assert_array_equal(one.step(rgb), expected[i])
        other.step(frames[-1 - i])


def test_pictures_may_be_given_in_many_ways(predictor, frames, tmp_path):
    Image.fromarray(frames[0]).save(tmp_path / "a.png")
    expected = predictor.stream().step(frames[0])
    for picture in (Image.fromarray(frames[0]), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(predictor.stream().step(picture), expected)


def test_memory_and_states_stay_the_same(predictor, frames):
    stream = predictor.stream(frame_step=3)
    sizes = set()
    for i in range(30):
        stream.step(frames[i % len(frames)], skipped=i // 5 % 3)
        states = [state[0] for state in stream._states.values()]
        sizes.add(sum(state.size for state in states if state is not None))
    assert len(stream._states) == 3
    assert max(sizes) == 3 * 16 * (INPUT_SIZE[0] // 32) * (INPUT_SIZE[1] // 32)


# ---- options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "fps", "step"),
    [
        ("DHF1K", 30, 5),
        ("DHF1K", 29.97, 5),
        ("DHF1K", Fraction(30000, 1001), 5),
        ("DHF1K", 60, 10),
        ("DHF1K", 25, 4),
        ("DHF1K", 24, 4),
        ("DHF1K", 12, 2),
        ("DHF1K", 6, 1),
        ("DHF1K", 1, 1),
        ("DHF1K", 120, 20),
        ("Hollywood", 24, 4),
        ("UCFSports", 30, 5),
    ],
)
def test_the_step_is_the_nearest_in_time(predictor, source, fps, step):
    trained = find_preset(source).frame_step / find_preset(source).frame_rate
    assert predictor.stream(fps, source).frame_step == step
    misfits = {n: abs(n / fps - trained) for n in range(1, 40)}
    assert misfits[step] == pytest.approx(min(misfits.values()))


def test_step_and_domain_can_be_chosen(predictor, frames):
    stream = predictor.stream(domain="UCFSports", frame_step=2)
    steps = [stream.step(rgb, log=True) for rgb in frames[:6]]
    model = predictor.engine.model
    assert_same(steps, plain_maps(model, frames[:6], "UCFSports", 2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": "fast"}, "fps is 'fast'"),
        ({"fps": True}, "fps is True"),
        ({"source": "NOPE"}, "'NOPE'"),
        ({"frame_step": 0}, "frame_step is 0"),
    ],
)
def test_a_wrong_option_is_told(predictor, options, words):
    with pytest.raises(UserError, match=words):
        predictor.stream(**options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda _: (photo((40, 71)),), r"40 x 71 .* 40 x 70 .*reset\(\)"),
        (lambda _: (np.zeros((4, 4, 2)),), "uint8 RGB"),
        (lambda _: ("missing.png",), "missing.png"),
        (lambda frames: (frames[0], -1), "skipped is -1"),
        (lambda frames: (frames[0], 1.5), "skipped is 1.5"),
    ],
    ids=["size", "array", "file", "negative", "fraction"],
)
def test_a_frame_that_is_refused_leaves_the_stream_as_it_was(predictor, frames, arguments, words):
    undisturbed, stream = predictor.stream(frame_step=2), predictor.stream(frame_step=2)
    for rgb in frames[:4]:
        undisturbed.step(rgb), stream.step(rgb)
    with pytest.raises(UserError, match=words):
        stream.step(*arguments(frames))
    np.testing.assert_array_equal(stream.step(frames[5]), undisturbed.step(frames[5]))


# ---- shots --------------------------------------------------------------------------------


def shot(seed, n):
    """Make frames of a camera that moves over one scene."""
    return [np.roll(scene(seed), 3 * i, axis=1) for i in range(n)]


def scene(seed):
    rng = np.random.default_rng(seed)
    colours = rng.integers(30, 226, (4, 5, 3)).astype(np.uint8)
    picture = np.kron(colours, np.ones((10, 14, 1), np.uint8))
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def test_cuts_are_found_and_movement_is_none():
    cuts = ShotCuts()
    frames = [rgb for seed in range(6) for rgb in shot(seed, 5)]
    assert [i for i, rgb in enumerate(frames) if cuts.starts_shot(rgb)] == [5, 10, 15, 20, 25]


def test_a_little_more_light_is_no_cut():
    # A wall whose colour lies at the border of two bins, in every channel.
    cuts = ShotCuts()
    for level in range(60, 70):
        assert not cuts.starts_shot(np.full((40, 70, 3), level, np.uint8))
    cuts.reset()
    assert not cuts.starts_shot(np.full((40, 70, 3), 250, np.uint8))
    assert cuts.starts_shot(np.full((40, 70, 3), 5, np.uint8))


@pytest.mark.parametrize("resets", [True, False])
def test_a_new_shot_is_a_new_video_if_asked_for(predictor, resets):
    one, other = shot(0, 4), shot(1, 4)
    stream = predictor.stream(frame_step=2, reset_at_cuts=resets)
    steps = np.array([stream.step(rgb, log=True) for rgb in [*one, *other]])
    model = predictor.engine.model
    apart = [plain_maps(model, f, "DHF1K", 2) for f in (one, other)]
    whole = plain_maps(model, [*one, *other], "DHF1K", 2)
    assert_same(steps, np.concatenate(apart) if resets else whole)
    assert np.abs(np.concatenate(apart) - whole)[4:].max() > 100 * TOLERANCE


# ---- its speed ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark_prints_percentiles(tmp_path):
    write_run(tmp_path / "pretrained_unisal")
    command = [sys.executable, "-m", "benchmarks.stream_latency", "--frames=6", "--warm_up=1"]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, "TRAIN_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\d+)th percentile +([\d.]+) ms$", done.stdout, re.MULTILINE)
    assert [share for share, _ in found] == ["50", "95", "99"]
    values = [float(value) for _, value in found]
    assert 0 < values[0] <= values[1] <= values[2]
    assert "6 frames of 640 x 360" in done.stdout
