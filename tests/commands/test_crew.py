"""Commands on many workers: the files of one process, whatever becomes of a worker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gaze_folders import write_gaze
from support import (
    PROJECT,
    call_command,
    lively_network,
    write_dhf1k,
    write_network,
    write_photo,
    write_salicon,
)
from videos import numbered, write_clip

N = 32

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Write a run and two equal folders of pictures, of which one is damaged; return the folder."""
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("UNISAL_CACHE_DIR", str(tmp_path / "cache"))
    write_network(tmp_path / "runs" / "pretrained_unisal", lively_network(contrast=0.5))
    for i in range(N):
        write_photo(tmp_path / "one" / "images" / f"{i}.png", (240, 320), seed=i % 5)
    (tmp_path / "one" / "images" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    shutil.copytree(tmp_path / "one", tmp_path / "many")
    return tmp_path


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def workers_of(place):
    """Return the process ids of the workers whose environment names a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes()
            if b"_Worker" in name and os.fsencode(place) in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


def wait_for(condition, process):
    """Wait until a condition holds while a process runs; return its value."""
    for _ in range(12_000):
        if value := condition():
            return value
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    pytest.fail("it takes too long")


def run_and_kill(place, command, n_done=None, n=0):
    """Run a command with two workers, of which one is killed after the first of `n` results.

    Where there are no results before the end, it is killed when its work has just begun.
    """
    if n_done is None:
        n_done, n = lambda: len(workers_of(place)), 3
    before = n_done()
    arguments = [sys.executable, str(PROJECT / "run.py"), *command, "--workers=2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, cwd=place, stdout=pipe, stderr=pipe, text=True) as process:
        wait_for(lambda: n_done() > before, process)
        os.kill(workers_of(place)[0], signal.SIGKILL)
        assert n_done() < n
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.slow
def test_folders_on_workers_of_which_one_is_killed(places):
    pytest.importorskip("ray")
    options = "--overlay=True", "--device=cpu"
    assert call_command("predictions_from_folder", str(places / "one"), *options) == 1
    whole = content(places / "one")
    done = places / "many" / "saliency" / "0.png"
    done.parent.mkdir()
    (places / "many" / "overlay").mkdir()
    for folder in ("saliency", "overlay"):
        shutil.copy(places / "one" / folder / "0.png", places / "many" / folder)
    written = done.stat().st_mtime_ns
    command = "predictions_from_folder", "many", *options
    process = run_and_kill(places, command, lambda: len(list(done.parent.glob("[0-9]*.png"))), N)
    out, err = process.stdout, process.stderr
    assert process.returncode == 1
    assert out.splitlines() == [
        "1 finished before and skipped; --overwrite=True predicts them again",
        f"{N - 1} saliency maps in many/saliency, overlays in many/overlay",
    ]
    assert err.splitlines() == [
        "run.py: ERROR: 1 failed:",
        "  many/images/damaged.png  is not a picture that can be read",
        f"run.py: 1 of {N + 1} pictures in many/images could not be predicted: damaged.png",
    ]
    assert content(places / "many") == whole
    assert done.stat().st_mtime_ns == written
    assert workers_of(places) == []


@pytest.mark.slow
def test_videos_on_workers_of_which_one_is_killed(places):
    pytest.importorskip("ray")
    films = places / "films"
    films.mkdir()
    for i in range(6):
        write_clip(films / f"{i}.mp4", numbered(9))
    (films / "damaged.mp4").write_bytes(b"no film")
    shutil.copytree(films, places / "clips")
    options = "--overlay=False", "--maps=npz", "--features=before_gru", "--device=cpu"
    assert call_command("predict_video", str(films), *options) == 1
    done = places / "clips" / "saliency"
    command = "predict_video", "clips", *options
    process = run_and_kill(places, command, lambda: len(list(done.glob("[0-9]*.npz"))), 6)
    assert process.returncode == 1
    assert process.stdout.splitlines() == [
        f"clips/{i}.mp4: clips/saliency/{i}_densities.npz, "
        f"clips/saliency/{i}_features_before_gru.h5"
        for i in range(6)
    ]
    assert process.stderr.splitlines() == [
        "run.py: ERROR: 1 failed:",
        "  clips/damaged.mp4  cannot be read as a video: Invalid data found when processing input",
        "run.py: 1 of 7 videos could not be predicted: clips/damaged.mp4",
    ]
    assert content(places / "clips") == content(films)


def write_data_sets(folder):
    """Write data sets of images and videos below a folder, and name them in the environment."""
    write_salicon(folder / "SALICON", "val", 20, (96, 128))
    broken = folder / "SALICON" / "images" / "COCO_val2014_000000000003.jpg"
    broken.write_bytes(broken.read_bytes()[:900])  # its header is whole
    write_dhf1k(folder / "DHF1K", {601: 5, 602: 4, 603: 3})
    write_gaze(folder / "crowd", {f"{i}.jpg": (96, 128) for i in range(60)})
    return {f"{name}_DATA_DIR": str(folder / name) for name in ("SALICON", "DHF1K")}


@pytest.mark.slow
def test_data_sets_on_workers_of_which_one_is_killed(places, monkeypatch, capsys):
    pytest.importorskip("ray")
    for name, folder in write_data_sets(places).items():
        monkeypatch.setenv(name, folder)
    command = "generate_predictions", "--sources=SALICON,DHF1K", "--phase=eval", "--device=cpu"
    monkeypatch.setenv("PRED_DIR", str(places / "one_process"))
    assert call_command(*command) == 1
    said = capsys.readouterr()
    monkeypatch.setenv("PRED_DIR", str(places / "workers"))
    done = places / "workers" / "pretrained_unisal"
    process = run_and_kill(places, command, lambda: len([*done.rglob("*.png")]), 31)
    assert process.returncode == 1
    assert process.stdout.replace("workers/", "one_process/") == said.out
    assert "SALICON COCO_val2014_000000000003" in process.stderr
    assert content(places / "workers") == content(places / "one_process")
    assert len([*done.rglob("*.png")]) == 31

    scored = "score_model", "--data=crowd", "--metrics=kld,nss,aucs,ig", "--device=cpu"
    monkeypatch.chdir(places)
    run = places / "runs" / "pretrained_unisal"
    before = content(run)
    assert call_command(*scored) == 0
    table, files = capsys.readouterr().out, content(run)
    assert len(files) > len(before)
    for path in files.keys() - before.keys():
        (run / path).unlink()
    process = run_and_kill(places, scored)
    assert process.returncode == 0, process.stderr
    assert process.stdout == table
    assert content(run) == files


def test_workers_have_no_gpu_of_their_own(places, capsys):
    command = "predictions_from_folder", str(places / "many"), "--device=cuda", "--workers=2"
    assert call_command(*command) == 2
    assert "workers predict on the CPU" in capsys.readouterr().err
