"""Names of files and folders of every kind, from what is typed to what is written and printed."""

from __future__ import annotations

import os
import sys

import h5py
import numpy as np
import pytest
from support import call_command, run_command, write_photo, write_run
from videos import numbered, write_clip

from unisal.commands import table
from unisal.config import data_dir, pred_dir, run_dir, train_dir

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes names of any bytes")
posix = pytest.mark.skipif(os.name != "posix", reason="Windows allows fewer names")
NOT_UTF8 = os.fsdecode(b"fr\xe4ulein \xff")
"""A name in Latin 1."""
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
TERMINALS = {"strict": {"PYTHONIOENCODING": "utf-8:strict"}, "ASCII": ASCII}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Return the folder of the runs, with the shipped one."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("TRAIN_DIR", str(folder))
    write_run(folder / "pretrained_unisal")
    return folder


def clip(path, n=3, **options):
    """Write a video under any name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path.parent / "plain.mp4", numbered(n), **options).rename(path)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# ---- not UTF-8 ----------------------------------------------------------------------------


@linux
@pytest.mark.slow
@pytest.mark.parametrize("terminal", TERMINALS)
def test_names_that_are_not_utf8_as_processes(tmp_path, terminal):
    env = TERMINALS[terminal]
    folder = tmp_path / NOT_UTF8
    write_photo(folder / "images" / f"{NOT_UTF8}.png", (30, 40))
    write_photo(folder / "images" / "\u65e5.jpg", (30, 40))
    (folder / "images" / f"bad {NOT_UTF8}.png").write_text("no picture")
    film = clip(tmp_path / f"{NOT_UTF8}.mp4", 3, sound="aac")
    (tmp_path / f"bad {NOT_UTF8}.mp4").write_text("no video")
    for command, code in (
        (["predictions_from_folder", str(folder), "--overlay=True"], 1),
        (["predict_video", str(film), str(tmp_path / f"bad {NOT_UTF8}.mp4"), "--maps=h5"], 1),
        (["visualize_examples", str(folder), "--contact_sheet=True"], 1),
        (["predict_camera", str(film), f"--out={tmp_path / NOT_UTF8}_live.mp4"], 0),
        (["score_model", NOT_UTF8], 2),
        (["predictions_from_folder", str(tmp_path / f"{NOT_UTF8} missing")], 2),
    ):
        done = run_command(*command, "--device=cpu", env=env)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr and "UnicodeEncodeError" not in done.stderr
        assert "fr\\udce4ulein \\udcff" in done.stderr or code == 0
    expected = sorted([f"{NOT_UTF8}.png", "\u65e5.jpg"])
    assert names(folder / "saliency") == names(folder / "overlay") == expected
    assert f"{NOT_UTF8}_viz.jpg" in names(folder / "viz_out")
    assert names(tmp_path / "saliency") == [f"{NOT_UTF8}_densities.h5", f"{NOT_UTF8}_overlay.mp4"]
    assert (tmp_path / f"{NOT_UTF8}_live.mp4").is_file()


@linux
def test_names_of_frames_that_are_not_utf8_are_kept(tmp_path):
    folder = tmp_path / NOT_UTF8
    for name in (NOT_UTF8, "a"):
        write_photo(folder / "images" / f"{name}.png", (30, 40))
    for maps in ("npz", "h5"):
        command = ["predictions_from_folder", str(folder), "--is_video", f"--maps={maps}"]
        assert call_command(*command, "--device=cpu") == 0
    with h5py.File(folder / "saliency" / f"{NOT_UTF8}_densities.h5") as file:
        assert [os.fsdecode(name) for name in file["names"]] == ["a.png", f"{NOT_UTF8}.png"]
    with np.load(folder / "saliency" / f"{NOT_UTF8}_densities.npz") as file:
        assert file["names"].tolist() == ["a.png", f"{NOT_UTF8}.png"]


# ---- long ---------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("stem", ["x" * 251, "\u65e5" * 83, "y" * 240])
def test_long_names(tmp_path, stem):
    film = clip(tmp_path / f"{stem}.mp4", 3)
    options = ["--maps=npz", "--features=before_upsampling", "--device=cpu"]
    for _ in range(2):
        assert call_command("predict_video", str(film), *options) == 0
        written = names(tmp_path / "saliency")
        assert len(written) == 3 and all(name.startswith(stem[:50]) for name in written)
    endings = ("_densities.npz", "_features_before_upsampling.h5", "_overlay.mp4")
    assert sorted(n for n in written if n.endswith(endings)) == written
    assert call_command("predict_video", str(film), "--maps=png", "--device=cpu") == 0
    assert len(names(tmp_path / "saliency")) == 4

    folder = tmp_path / stem
    write_photo(folder / "images" / f"{stem}.png", (30, 40))
    for more in (["--overlay=True"], ["--maps=h5"], ["--is_video", "--maps=npz"]):
        assert call_command("predictions_from_folder", str(folder), *more, "--device=cpu") == 0
    assert names(folder / "overlay") == [f"{stem}.png"]
    assert len(names(folder / "saliency")) == 3
    assert call_command("visualize_examples", str(folder), "--video=True", "--device=cpu") == 0
    assert len(names(folder / "viz_out")) == 2


# ---- signs that mean something elsewhere --------------------------------------------------

SIGNS = [
    "clips[1]/a.mp4",
    "a%03d.mp4",
    "100%.mp4",
    "%s/%d.mp4",
    "concat:a.mp4",
    "http:a.mp4",
    "file:a.mp4",
    "pipe:/0.mp4",
    "-a.mp4",
    "--overlay.mp4",
    "a#b?c*d.mp4",
    "a\nb.mp4",
    "~x.mp4",
    "~/a.mp4",
    "7.mp4",
    "(1,2).mp4",
    "a,b;c d'e.mp4",
    '"a".mp4',
]


@posix
@pytest.mark.parametrize("name", SIGNS)
def test_an_existing_file_is_that_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = clip(tmp_path / name, 3, sound="aac")
    assert call_command("predict_video", name, "--device=cpu") == 0
    out = path.parent / "saliency"
    assert names(out) == [f"{path.stem}_overlay.mp4"]
    (out / f"{path.stem}_overlay.mp4").unlink()
    assert call_command("predict_video", name, f"--out_dir={path.parent.name}[%d]") == 0
    assert names(tmp_path / f"{path.parent.name}[%d]") == [f"{path.stem}_overlay.mp4"]


@posix
@pytest.mark.parametrize("name", ["a[1]", "100%", "-x", "a\nb", "~x", "7", "%d", "a:b", "#?*"])
def test_an_existing_folder_is_that_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for picture in (f"{name}.png", f"{name}.jpg"):
        write_photo(tmp_path / name / "images" / picture, (30, 40))
    clip(tmp_path / name / f"{name}.mp4", 3)
    assert call_command("predictions_from_folder", name, "--overlay", "--device=cpu") == 0
    assert names(tmp_path / name / "overlay") == [f"{name}.jpg", f"{name}.png"]
    assert call_command("predict_video", name, "--device=cpu") == 0
    assert f"{name}_overlay.mp4" in names(tmp_path / name / "saliency")
    sheet = "--contact_sheet=True"
    assert call_command("visualize_examples", f"--folder_path={name}", sheet, "--video") == 0
    assert len(names(tmp_path / name / "viz_out")) == 4


def test_a_pattern_in_a_folder_with_brackets(tmp_path):
    for name in ("a", "b"):
        clip(tmp_path / "clips[1]" / f"{name}.mp4", 2)
    assert call_command("predict_video", str(tmp_path / "clips[1]" / "[ab].mp4")) == 0
    assert len(names(tmp_path / "clips[1]" / "saliency")) == 2


# ---- the home folder ----------------------------------------------------------------------


@posix
def test_a_tilde_is_expanded_wherever_a_path_is_named(tmp_path, monkeypatch, runs):
    home, away = tmp_path / "home", tmp_path / "away"
    away.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(away)
    write_photo(home / "pictures" / "images" / "a.png", (30, 40))
    clip(home / "clips" / "a.mp4", 3)
    runs.rename(home / "runs")
    for variable, folder in (("TRAIN_DIR", train_dir), ("PRED_DIR", pred_dir)):
        monkeypatch.setenv(variable, "~/runs")
        assert folder() == home / "runs"
    monkeypatch.setenv("DHF1K_DATA_DIR", "~/data")
    assert data_dir("DHF1K_DATA_DIR", "DHF1K") == home / "data"
    assert run_dir("~/runs/pretrained_unisal") == home / "runs" / "pretrained_unisal"
    for command in (
        ["predictions_from_folder", "--folder_path=~/pictures", "--out_dir=~/maps"],
        ["predict_video", "--video_path=~/clips/*.mp4", "--out_dir=~/films"],
        ["predict_video", "~/clips", "--out_dir=~/more"],
        ["predict_camera", "--camera=~/clips/a.mp4", "--out=~/live.mp4"],
        ["visualize_examples", "--folder_path=~/pictures"],
        ["predictions_from_folder", "~/pictures", "--train_id=~/runs/pretrained_unisal"],
    ):
        assert call_command(*command, "--device=cpu") == 0, command
    assert names(away) == []
    assert names(home / "maps" / "saliency") == ["a.png"]
    assert names(home / "films") == names(home / "more") == ["a_overlay.mp4"]
    assert (home / "live.mp4").is_file()
    assert names(home / "pictures") == ["images", "saliency", "viz_out"]


# ---- addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["", "/" + "x" * 300 + ".mp4"], ids=["short", "long"])
def test_the_address_of_a_stream_is_printed_as_it_is(tmp_path, capsys, tail):
    address = f"http://127.0.0.1:9//clips/a%20b.mp4{tail}?x=1#y"
    assert call_command("predict_camera", address, f"--out={tmp_path / 'live.mp4'}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert address in line


@pytest.mark.parametrize("tail", ["", "/" + "x" * 300 + ".mp4"], ids=["short", "long"])
def test_the_address_of_a_video_is_printed_without_its_query(tmp_path, capsys, monkeypatch, tail):
    """Queries may be keys."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("unisal.remote.places.WAITS", ())
    address = f"http://127.0.0.1:9//clips/a%20b.mp4{tail}?x=1#y"
    assert call_command("predict_video", address, f"--out_dir={tmp_path}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert address.partition("?")[0] in line or "127.0.0.1:9/clips/a b.mp4 cannot be" in line
    assert "x=1" not in line


# ---- several inputs -----------------------------------------------------------------------


def test_several_videos_as_a_shell_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        clip(tmp_path / "clips" / f"{name}.mp4", 2)
    clip(tmp_path / "more" / "d.mp4", 2)
    words = ["clips/a.mp4", "clips/b.mp4", "./clips/a.mp4", "more", "clips/*.mp4"]
    assert call_command("predict_video", *words, "--overlay=False", "--maps=npz") == 0
    assert names(tmp_path / "clips" / "saliency") == [f"{n}_densities.npz" for n in "abc"]
    assert names(tmp_path / "more" / "saliency") == ["d_densities.npz"]
    words = ["clips/a.mp4", "--out_dir=out", "clips/b.mp4", "--maps=npz", "--overlay=False", "more"]
    assert call_command("predict_video", *words) == 0
    assert names(tmp_path / "out") == [f"{n}_densities.npz" for n in "abd"]


def test_several_folders_and_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_photo(tmp_path / name / "images" / "1.png", (30, 40))
    write_photo(tmp_path / "c" / "1.jpg", (30, 40))
    write_photo(tmp_path / "c" / "2.jpg", (30, 40))
    assert call_command("predictions_from_folder", "a", "b", "a", "c/1.jpg", "--device=cpu") == 0
    assert names(tmp_path / "a" / "saliency") == names(tmp_path / "b" / "saliency") == ["1.png"]
    assert names(tmp_path / "c" / "saliency") == ["1.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict_video", "in.mp4", "out.mp4"], ["out.mp4 does not exist", "--out_dir"]),
        (["predict_video", "in.mp4", "--out_dir"], ["out_dir"]),
        (["predict_video"], ["video_path"]),
        (["predictions_from_folder", "pictures", "True"], ["True does not exist"]),
        (["score_model", "pretrained_unisal", "SALICON"], ["'SALICON'", "--sources=SALICON"]),
        (["score_model", "run", "x", "y"], ["'x'", "--sources=x"]),
        (["generate_predictions", "mine", "DHF1K"], ["'DHF1K'", "--sources=DHF1K"]),
        (["visualize_examples", "pictures", "mine"], ["'mine'", "--train_id=mine"]),
        (["predict_camera", "in.mp4", "out.mp4"], ["'out.mp4'", "--out=out.mp4"]),
        (["check_data", "SALICON", "True"], ["'True'", "--quick=True"]),
        (["train", "SALICON"], ["'SALICON'", "--eval_sources=SALICON"]),
        (["predict_video", "-"], ["'-'"]),
        (["predict_video", "in.mp4", "-x"], ["-x"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_options_without_their_names_are_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "in.mp4", 2)
    write_photo(tmp_path / "pictures" / "images" / "a.png", (30, 40))
    before = sorted(tmp_path.rglob("*"))
    assert call_command(*arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and all(word in line for word in words), line
    assert sorted(tmp_path.rglob("*")) == before


def test_words_behind_two_hyphens_are_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "--device.mp4", 2)
    clip(tmp_path / "--overlay", 2)
    words = ["predict_video", "--overlay=False", "--maps=npz", "--", "--device.mp4", "--overlay"]
    assert call_command(*words) == 0
    assert names(tmp_path / "saliency") == ["--device_densities.npz", "--overlay_densities.npz"]


def test_help_names_the_inputs(capsys):
    assert call_command("predict_video", "--help") == 0
    usage = capsys.readouterr().out.splitlines()[0]
    assert usage.endswith("predict_video VIDEO_PATH [VIDEO_PATH ...] [--option=value ...]")
    assert call_command("score_model", "--help") == 0
    assert "score_model [TRAIN_ID] [--option=value ...]" in capsys.readouterr().out


def test_from_python_one_input_or_several(tmp_path):
    clips = [clip(tmp_path / f"{name}.mp4", 2) for name in "ab"]
    table.predict_video(str(clips[0]), overlay=False, maps="npz", device="cpu")
    table.predict_video(video_path=clips, overlay=False, maps="npz", device="cpu")
    assert names(tmp_path / "saliency") == ["a_densities.npz", "b_densities.npz"]
