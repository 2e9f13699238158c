"""A stream: step by step the numbers of the whole video, dropped frames, shots; and the camera."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from support import PROJECT, lively_network, photo, run_command, write_run
from torchvision.transforms import functional as tv
from videos import call, decode, number_of, numbered, write_clip

from unisal.commands.camera import Camera, Newest, open_camera
from unisal.data.video_file import Frame
from unisal.errors import UserError
from unisal.predict import Predictor
from unisal.predict.presets import Preset, find_preset
from unisal.predict.stream import ShotCuts

SIZE, INPUT_SIZE = (40, 70), (64, 96)
TOLERANCE = 4e-5
WITHOUT_SCREEN = pytest.mark.skipif(sys.platform != "linux", reason="there always is a screen")


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    monkeypatch.setattr(Preset, "input_size_for", lambda *_: INPUT_SIZE)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(lively_network(), "cpu")


@pytest.fixture(scope="module")
def frames():
    return [photo(SIZE, seed) for seed in range(13)]


def plain_stream(model, frames, positions, domain, step, static=False):
    """-> log-densities `[n, h, w]`: each frame continues the state of its place in the video."""
    states, maps = {}, []
    for rgb, position in zip(frames, positions, strict=True):
        resized = Image.fromarray(rgb).resize(INPUT_SIZE[::-1], Image.Resampling.LANCZOS)
        x = tv.normalize(tv.to_tensor(resized), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        with torch.no_grad():
            y, states[position % step] = model(
                x[None, None],
                target_size=rgb.shape[:2],
                h0=states.get(position % step),
                return_hidden=True,
                source=domain,
                static=static,
            )
        maps.append(y[0, 0, 0].numpy())
    return np.stack(maps)


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
    assert_same(steps, plain_stream(model, frames, positions, "DHF1K", step))
    if step > 1:  # the comparison can fail
        others = plain_stream(model, frames, range(len(frames)), "DHF1K", step)
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
        sizes.add(sum(state.numel() for state in states if state is not None))
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
    assert_same(steps, plain_stream(model, frames[:6], range(6), "UCFSports", 2))


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
        (lambda _: (np.zeros((4, 4)),), "uint8 RGB"),
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
    """-> frames of a camera that moves over one scene."""
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
    apart = [plain_stream(model, f, range(4), "DHF1K", 2) for f in (one, other)]
    whole = plain_stream(model, [*one, *other], range(8), "DHF1K", 2)
    assert_same(steps, np.concatenate(apart) if resets else whole)
    assert np.abs(np.concatenate(apart) - whole)[4:].max() > 100 * TOLERANCE


# ---- the camera ---------------------------------------------------------------------------


def ticking(n, seconds, closed):
    """-> a camera that takes `n` frames, one each so many seconds."""

    def frames():
        for i in range(n):
            time.sleep(seconds)
            yield Frame(np.full((4, 4, 3), i, np.uint8), Fraction(i), Fraction(1))

    return Camera((4, 4), Fraction(30), frames(), lambda: closed.append(1), True, False)


def test_the_newest_frame_is_taken_and_the_others_are_counted():
    closed, taken = [], []
    with Newest(ticking(40, 0.005, closed)) as newest:
        newest.start()
        while (frame := newest.take(5)) is not None:
            taken.append(int(frame.rgb[0, 0, 0]))
            time.sleep(0.02)
    assert taken == sorted(set(taken)) and taken[-1] == 39
    assert 1 < len(taken) < 40 and len(taken) + newest.n_dropped == 40
    assert newest.ended and closed == [1]


def test_waiting_for_a_frame_has_an_end():
    with Newest(ticking(1, 0.3, [])) as newest:
        newest.start()
        assert newest.take(0.01) is None and not newest.ended
        assert newest.take(5) is not None


def test_what_breaks_a_camera_is_raised():
    def frames():
        yield Frame(np.zeros((4, 4, 3), np.uint8), Fraction(0), Fraction(1))
        raise UserError("unplugged")

    camera = Camera((4, 4), Fraction(30), frames(), lambda: None, True, False)
    with Newest(camera) as newest:
        newest.start()
        with pytest.raises(UserError, match="unplugged"):
            list(iter(lambda: newest.take(1), "never"))


def test_a_file_is_played_at_its_own_pace(tmp_path):
    path = write_clip(tmp_path / "a.mp4", numbered(10), rate=20)
    taken, begun = [], None
    with Newest(open_camera(str(path))) as newest:
        newest.start()
        while (frame := newest.take(5)) is not None:
            begun = time.monotonic() if begun is None else begun
            taken.append(number_of(frame.rgb))
    assert time.monotonic() - begun >= 0.4
    assert len(taken) + newest.n_dropped == 10 and taken == sorted(taken)


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "runs" / "pretrained_unisal")
    return {"TRAIN_DIR": str(tmp_path / "runs"), "DISPLAY": "", "OMP_NUM_THREADS": "1"}


def test_a_camera_is_recorded_as_a_process(tmp_path, runs):
    path = write_clip(tmp_path / "film.mp4", numbered(30, (120, 160)), rate=15)
    out = tmp_path / "out" / "seen.mp4"
    done = run_command("predict_camera", str(path), f"--out={out}", env=runs)
    assert (done.returncode, done.stderr) == (0, "")
    said = re.fullmatch(
        r"(\d+) frames in ([\d.]+) s: ([\d.]+) frames per second, (\d+) of .* dropped; "
        rf"overlay in {out}\n",
        done.stdout,
    )
    n, seconds, rate, dropped = (float(x) for x in said.groups())
    assert n + dropped == 30 and rate == pytest.approx(n / seconds, rel=0.05)
    frames, times = decode(out)
    assert len(frames) == n and frames[0].shape == (120, 160, 3)
    assert times[0] == 0 and times[-1] <= 2 and times == sorted(set(times))
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope.mp4", "--out=a.mp4"], ["nope.mp4"]),
        (["97", "--out=a.mp4"], ["no camera 97"]),
        (["FILM", "--out=a.avi"], ["a.avi", ".mp4"]),
        pytest.param(["FILM"], ["no window can be shown", "--out"], marks=WITHOUT_SCREEN),
        (["FILM", "--out=a.mp4", "--seconds=0"], ["seconds is 0"]),
        (["FILM", "--out=a.mp4", "--source=NOPE"], ["'NOPE'"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_with_a_camera_is_one_line(tmp_path, monkeypatch, capfd, arguments, words):
    film = write_clip(tmp_path / "film.mp4", numbered(3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPLAY", "")
    code = call("predict_camera", *(str(film) if a == "FILM" else a for a in arguments))
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert all(word in line for word in words), line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4"]


@pytest.mark.slow
def test_the_benchmark_prints_percentiles(runs):
    command = [sys.executable, "-m", "benchmarks.stream_latency", "--frames=6", "--warm_up=1"]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, **runs},
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


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize(
    ("command", "code"), [("predict_camera", 0), ("predict_video", 130)], ids=lambda v: str(v)
)
def test_ctrl_c_ends_a_recording_and_interrupts_a_file(tmp_path, runs, command, code):
    film = write_clip(tmp_path / "film.mp4", numbered(100, (120, 160)) * 6, rate=10)
    folder = tmp_path / "out"
    where = {
        "predict_camera": f"--out={folder / 'seen.mp4'}",
        "predict_video": f"--out_dir={folder}",
    }
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "run.py"), command, str(film), where[command]],
        env={**os.environ, **runs},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 120
        while process.poll() is None and not (folder.exists() and list(folder.iterdir())):
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, err
    if command == "predict_camera":
        assert [p.name for p in folder.iterdir()] == ["seen.mp4"]
        n = int(re.match(r"(\d+) frames in", out)[1])
        assert len(decode(folder / "seen.mp4")[0]) == n < 600
    else:
        assert err == "run.py: interrupted\n" and list(folder.iterdir()) == []
