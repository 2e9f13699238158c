"""Places that cannot be written, disks that fill up and signals that end a command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import (
    PROJECT,
    TINY,
    call_command,
    fill_disk,
    run_command,
    write_dhf1k,
    write_photo,
    write_run,
    write_salicon,
)
from videos import numbered, write_clip

from unisal.commands.cli import main
from unisal.files import whole_file
from unisal.model.weights import load_tensors
from unisal.train import Trainer

INDEX = ".unisal_index.json"
"""What is remembered about a data set, in its folder."""
posix = pytest.mark.skipif(os.name != "posix", reason="signals and links are those of POSIX")


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Return the folder of the runs, with the shipped one and one that was trained."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("TRAIN_DIR", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_run(folder / "pretrained_unisal")
    write_run(folder / "mine")
    return folder


def write_pictures(folder, n=3, size=(30, 40)):
    write_photo(folder / "images" / "000.png", size)
    for i in range(1, n):
        shutil.copy(folder / "images" / "000.png", folder / "images" / f"{i:03d}.png")
    return folder


def all_files(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {p: p.read_bytes() for p in files if p.name != INDEX}


def hidden(folder):
    return [p for p in folder.rglob(".*") if p.name != INDEX]


# ---- before the work ----------------------------------------------------------------------

COMMANDS = {
    "folder": ["predictions_from_folder", "PICTURES", "--out_dir=PLACE", "--device=cpu"],
    "overlay": ["predictions_from_folder", "PICTURES", "--out_dir=PLACE", "--overlay=True"],
    "video": ["predict_video", "CLIP", "--out_dir=PLACE", "--device=cpu"],
    "camera": ["predict_camera", "CLIP", "--out=PLACE/live.mp4", "--device=cpu"],
    "predictions": ["generate_predictions", "mine", "--sources=DHF1K", "--device=cpu"],
    "train": ["train", "--data_sources=SALICON", f"--model_cfg={TINY}", "--num_workers=0"],
    "weights": ["download_weights", "--base_url=http://127.0.0.1:9/"],
}
VARIABLES = {"predictions": "PRED_DIR", "train": "TRAIN_DIR", "weights": "TRAIN_DIR"}
"""The variables that name the place where no option does."""


def make_place(kind, tmp_path):
    """Return a place that cannot be written."""
    if kind == "file":
        (tmp_path / "file").write_text("a user's")
        return tmp_path / "file"
    if kind == "below a file":
        return make_place("file", tmp_path) / "out"
    if kind == "link to nothing":
        (tmp_path / "link").symlink_to(tmp_path / "gone" / "for good")
        return tmp_path / "link"
    if kind == "link to itself":
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        return tmp_path / "loop"
    return Path(kind)


def write_inputs(tmp_path, monkeypatch):
    """Write something to predict, to train on and to score."""
    write_pictures(tmp_path / "pictures")
    write_clip(tmp_path / "clip.mp4", numbered(3))
    write_dhf1k(tmp_path / "DHF1K", {601: 3, 701: 3})
    for part in ("train", "val"):
        write_salicon(tmp_path / "SALICON", part, n=2)
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "SALICON"))
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path / "DHF1K"))


def refuse(command, place, tmp_path, monkeypatch, capsys):
    """Call a command that is to write to a place, and return the line that it says."""
    if command in VARIABLES:
        monkeypatch.setenv(VARIABLES[command], str(place))
    given = {"PICTURES": str(tmp_path / "pictures"), "CLIP": str(tmp_path / "clip.mp4")}
    arguments = [given.get(a, a).replace("PLACE", str(place)) for a in COMMANDS[command]]
    before = all_files(tmp_path)
    assert call_command(*arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert str(place) in line and "cannot be written" in line and out == ""
    assert all_files(tmp_path) == before and not hidden(tmp_path)
    return line


@posix
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "kind", ["file", "below a file", "link to nothing", "link to itself", "/proc/out", "/dev/full"]
)
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys, command, kind):
    write_inputs(tmp_path, monkeypatch)
    if command == "predictions":  # the weights are looked for before
        monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    refuse(command, make_place(kind, tmp_path), tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_is_read_only_is_one_line(tmp_path, monkeypatch, capsys, command, small_disk):
    write_inputs(tmp_path, monkeypatch)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    line = refuse(command, small_disk / "new", tmp_path, monkeypatch, capsys)
    assert "Read-only file system" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_is_full_is_one_line(tmp_path, monkeypatch, capsys, command, small_disk):
    write_inputs(tmp_path, monkeypatch)
    fill_disk(small_disk)
    line = refuse(command, small_disk / "new", tmp_path, monkeypatch, capsys)
    assert "No space left on device" in line


def test_results_beside_inputs_that_are_read_only(capsys, small_disk):
    write_pictures(small_disk / "pictures")
    write_clip(small_disk / "clip.mp4", numbered(3))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for command in (
        ["predictions_from_folder", str(small_disk / "pictures")],
        ["predict_video", str(small_disk / "clip.mp4")],
        ["visualize_examples", str(small_disk / "pictures")],
    ):
        assert call_command(*command, "--device=cpu") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "Read-only file system" in line and "--out_dir" in line


def test_a_folder_where_a_file_belongs_and_the_other_way_round(tmp_path, monkeypatch, capsys, runs):
    write_inputs(tmp_path, monkeypatch)
    (tmp_path / "saliency" / "clip_overlay.mp4").mkdir(parents=True)
    (tmp_path / "saliency" / "clip_maps").write_text("a user's")
    (tmp_path / "live.mp4").mkdir()
    (runs / "mine" / "report.html").mkdir()
    clip = str(tmp_path / "clip.mp4")
    for command, words in (
        (["predict_video", clip], "clip_overlay.mp4 cannot be written: it is a folder"),
        (["predict_video", clip, "--overlay=False", "--maps=png"], "clip_maps cannot be written"),
        (["predict_camera", clip, f"--out={tmp_path / 'live.mp4'}"], "it is a folder"),
        (["score_model", "mine", "--sources=DHF1K", "--report"], "report.html cannot be written"),
    ):
        assert call_command(*command, "--device=cpu") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert not hidden(tmp_path)


# ---- a disk that fills midway -------------------------------------------------------------


def test_pictures_until_the_disk_is_full(small_disk, tmp_path, capsys):
    pictures = write_pictures(tmp_path / "pictures", 60)
    fill_disk(small_disk, left=100_000)
    command = ["predictions_from_folder", str(pictures), f"--out_dir={small_disk}", "--device=cpu"]
    assert call_command(*command) == 1
    _, err = capsys.readouterr()
    done = sorted((small_disk / "saliency").iterdir())
    assert 0 < len(done) < 60 and not hidden(small_disk)
    assert f"{len(done)} of 60 pictures" in err.splitlines()[-1]
    assert "No space left on device" in err and len(err.splitlines()) < 10
    for path in done:
        Image.open(path).load()
    (small_disk / "full").unlink()
    assert call_command(*command) == 0
    assert len(list((small_disk / "saliency").iterdir())) == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "left"),
    [
        ("--maps=npz", 700_000),
        ("--maps=h5", 700_000),
        ("--maps=png", 150_000),
        ("--features=encoder_8", 700_000),
    ],
)
def test_videos_until_the_disk_is_full(small_disk, tmp_path, option, left):
    for name in "abcdef":
        write_clip(tmp_path / "clips" / f"{name}.mp4", numbered(3 if name == "a" else 40))
    fill_disk(small_disk, left)
    command = ["predict_video", str(tmp_path / "clips"), f"--out_dir={small_disk}", option]
    done = run_command(*command, "--overlay=False", "--device=cpu")
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "1 of 6 videos done" in line and "No space left on device" in line
    left = [p for p in small_disk.iterdir() if p.name != "full"]
    assert len(left) == 1 and left[0].name.startswith("a_")


def test_predictions_until_the_disk_is_full(small_disk, tmp_path, monkeypatch, capsys):
    write_dhf1k(tmp_path / "DHF1K", {701: 60})
    monkeypatch.setenv("DHF1K_DATA_DIR", str(tmp_path / "DHF1K"))
    monkeypatch.setenv("PRED_DIR", str(small_disk))
    fill_disk(small_disk, left=100_000)
    command = ["generate_predictions", "mine", "--sources=DHF1K", "--device=cpu"]
    assert call_command(*command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    found = list((small_disk / "mine" / "DHF1K").rglob("*.png"))
    assert 0 < len(found) < 60 and f"DHF1K: {len(found)} of 60 frames done" in line
    assert "No space left on device" in line and not hidden(small_disk)
    (small_disk / "full").unlink()
    assert call_command(*command) == 0
    assert len(list((small_disk / "mine" / "DHF1K").rglob("*.png"))) == 60


def train(*more):
    options = [
        "--data_sources=SALICON",
        "--eval_sources=SALICON",
        "--prefix=new",
        "--num_epochs=3",
        "--num_workers=0",
        "--device=cpu",
        "--tboard=False",
        "--salicon_cfg={'out_size': [64, 96]}",
        f"--model_cfg={TINY}",
    ]
    return call_command("train", *(more or options))


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", [60], indirect=True)
def test_training_until_the_disk_is_full(small_disk, tmp_path, monkeypatch, capsys):
    for part in ("train", "val"):
        write_salicon(tmp_path / "data", part, n=4)
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "data"))
    assert train() == 0
    monkeypatch.setenv("TRAIN_DIR", str(small_disk))
    begin = Trainer._fit_epoch

    def fill_in_the_second_epoch(self, interrupt):
        if self.epoch == 1:
            fill_disk(small_disk)
        begin(self, interrupt)

    monkeypatch.setattr(Trainer, "_fit_epoch", fill_in_the_second_epoch)
    capsys.readouterr()
    assert train() == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 3 epochs done" in line and "No space left on device" in line
    assert "make room, then continue with --resume=new_unisal" in line
    run = small_disk / "new_unisal"
    assert not hidden(small_disk)
    assert load_tensors(run / "chkpnt_latest.pth")["epoch"] == 0

    monkeypatch.setattr(Trainer, "_fit_epoch", begin)
    (small_disk / "full").unlink()
    assert train("--resume=new_unisal") == 0
    ends = [load_tensors(f / "weights_best.pth") for f in (run, tmp_path / "runs" / "new_unisal")]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[1])


# ---- signals ------------------------------------------------------------------------------


def stop(arguments, begun, how, group=False):
    """Run a command, end it by a signal once it has begun, and return what it said.

    With `group` its workers get the signal too.
    """
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "run.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while not begun():
            assert process.poll() is None and time.monotonic() < until, process.communicate()
            time.sleep(0.002)
        if group:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + how, err
    assert err.splitlines()[-1] == f"run.py: ended by {how.name}"
    assert "Traceback" not in err
    return out


@posix
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_folder_that_is_ended_leaves_nothing_half_written(tmp_path, how):
    pictures = write_pictures(tmp_path / "pictures", 300)
    maps = pictures / "saliency"
    stop(["predictions_from_folder", str(pictures)], (maps / "000.png").exists, how)
    assert 0 < len(list(maps.iterdir())) < 300 and not hidden(tmp_path)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("option", ["--maps=npz", "--maps=h5", "--maps=png"])
def test_a_video_that_is_ended_leaves_nothing_half_written(tmp_path, option):
    write_clip(tmp_path / "clip.mp4", numbered(400))
    out = tmp_path / "saliency"
    command = ["predict_video", str(tmp_path / "clip.mp4"), option]
    stop(command, lambda: len(hidden(out)) > 1, signal.SIGTERM)
    assert list(out.iterdir()) == []


@posix
@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["one process", "all processes"])
def test_training_that_is_ended_goes_on(tmp_path, monkeypatch, group):
    for part in ("train", "val"):
        write_salicon(tmp_path / "data", part, n=60)
    monkeypatch.setenv("SALICON_DATA_DIR", str(tmp_path / "data"))
    options = [
        "train",
        "--data_sources=SALICON",
        "--prefix=new",
        "--num_workers=2",
        "--num_epochs=50",
        "--device=cpu",
        "--tboard=False",
        "--salicon_cfg={'out_size': [64, 96]}",
        f"--model_cfg={TINY}",
    ]
    run = tmp_path / "runs" / "new_unisal"
    out = stop(options, (run / "chkpnt_latest.pth").exists, signal.SIGTERM, group)
    assert "continue with --resume=new_unisal" in out
    assert "unfinished" in load_tensors(run / "chkpnt_latest.pth")
    assert not hidden(tmp_path)


@posix
def test_a_signal_that_is_ignored_stays_ignored():
    seen = []

    def command():
        seen.append(signal.getsignal(signal.SIGHUP))
        os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        assert main({"command": command}, ["command"], "run.py") == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [signal.SIG_IGN]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@posix
def test_the_next_run_removes_what_a_killed_one_left(tmp_path):
    pictures = write_pictures(tmp_path / "pictures")
    script = (
        "import os, sys; from pathlib import Path; from unisal.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    left = pictures / "saliency" / "000.png"
    subprocess.run([sys.executable, "-c", script, left], cwd=PROJECT, check=False)
    (pictures / "saliency" / ".mine-0123456789abcdef.png").write_text("a user's")
    with whole_file(pictures / "saliency" / "other.png") as alive:
        assert len(hidden(pictures)) == 3
        assert call_command("predictions_from_folder", str(pictures), "--device=cpu") == 0
        assert sorted(hidden(pictures)) == sorted(
            [alive, left.with_name(".mine-0123456789abcdef.png")]
        )
