"""The camera: frames that are dropped, files that are played, recordings, mistakes, Ctrl-C."""

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
from support import PROJECT, call_command, run_command, write_run
from videos import decode, number_of, numbered, write_clip

from unisal.commands.camera import Camera, Newest, open_camera
from unisal.data.video_file import Frame
from unisal.errors import UserError

WITHOUT_SCREEN = pytest.mark.skipif(sys.platform != "linux", reason="there always is a screen")


def ticking(n, seconds, closed):
    """Make a camera that takes `n` frames, with so many seconds between them."""

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


@pytest.mark.slow
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
    code = call_command("predict_camera", *(str(film) if a == "FILM" else a for a in arguments))
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert all(word in line for word in words), line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4"]


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
