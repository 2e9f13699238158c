"""Videos and pictures that a list names: the files of the same ones typed, faults named by line."""

from __future__ import annotations

import pytest
from support import call_command, run_command, write_photo, write_run
from videos import video_options

from unisal.commands import listed
from unisal.commands.listed import check_outputs, listed_places, predict_listed
from unisal.errors import PlaceLost, SomeFailed, UserError


def write_list(folder, *lines):
    path = folder / "list.txt"
    path.write_text("\n".join(lines))
    return path


def test_videos_are_predicted_some_at_a_time(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(listed, "AT_A_TIME", 2)
    for name in "abcde":
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    path = write_list(tmp_path, *(f"{n}.mp4" for n in "abxcde"))
    calls = []

    def predict(paths):
        calls.append([p[-5] for p in paths])
        if "d" in calls[-1]:
            raise UserError("d is damaged") if len(paths) == 1 else SomeFailed("d failed")

    with pytest.raises(SomeFailed, match="some of 6 videos"):
        predict_listed(path, None, video_options(), predict)
    assert calls == [["a", "b"], ["c"], ["d", "e"]]
    assert f"{path}:3: {tmp_path}/x.mp4 is no file" in caplog.text
    assert f"{path}, lines 5 to 6: d failed" in caplog.text


@pytest.mark.parametrize("error", [PlaceLost("the disk is full"), UserError("no such domain")])
def test_what_would_befall_all_others_ends_the_work(tmp_path, monkeypatch, error):
    monkeypatch.setattr(listed, "AT_A_TIME", 2)
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    calls = []

    def predict(paths):
        calls.append(paths)
        raise error

    with pytest.raises(type(error), match=str(error)):
        predict_listed(
            write_list(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4"), None, video_options(), predict
        )
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("lines", "collide"),
    [
        (("a/film.mp4", "b/film.avi"), True),
        (("a/film.mp4", "a/film.avi"), False),  # their names keep the suffixes
        (("a/film.avi", "a/film.mp4", "b/film.avi.mkv"), True),
        (("a/film.mp4", "b/film2.mp4"), False),
    ],
)
def test_outputs_of_one_name_are_found_in_the_whole_list(tmp_path, lines, collide):
    for line in lines:
        (tmp_path / line).parent.mkdir(exist_ok=True)
        (tmp_path / line).write_bytes(b"")
    path = write_list(tmp_path, *lines)
    check_outputs(path, video_options())  # beside each video
    options = video_options(out_dir=tmp_path / "out")
    if not collide:
        check_outputs(path, options)
        return
    with pytest.raises(UserError, match=r"list\.txt, lines .*both be written to .*out"):
        check_outputs(path, options)


@pytest.mark.parametrize(
    ("lines", "typed", "said"),
    [
        (["a.png", "a.png"], None, "list.txt:2 names the same file as line 1"),
        (["a.png", "b.png"], None, "list.txt:2: .*b.png does not exist"),
        (["a.png"], "a.png", "other files beside it"),
    ],
)
def test_faults_are_named_before_any_work(tmp_path, lines, typed, said):
    write_photo(tmp_path / "a.png")
    with pytest.raises(UserError, match=said):
        listed_places(write_list(tmp_path, *lines), typed)


def test_a_fault_ends_the_command_with_the_code_of_a_mistake(tmp_path):
    done = run_command("predict_video", f"--files={write_list(tmp_path, 'a.mp4', './a.mp4')}")
    assert done.returncode == 2 and "list.txt:2 names the same file as line 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_listed_pictures_get_the_maps_of_typed_ones(tmp_path, monkeypatch):
    write_run(tmp_path / "runs" / "mine_unisal")
    monkeypatch.setenv("TRAIN_DIR", str(tmp_path / "runs"))
    for folder in ("typed", "listed"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            write_photo(tmp_path / folder / f"{name}.png", seed=ord(name))
    path = write_list(tmp_path, "listed/a.png", "# all", "listed/b.png")
    typed = [str(tmp_path / "typed" / f"{name}.png") for name in ("a", "b")]
    for words in (typed, [f"--files={path}"]):
        more = ("--train_id=mine_unisal", "--device=cpu")
        assert call_command("predictions_from_folder", *words, *more) == 0
    for name in ("a.png", "b.png"):
        maps = [(tmp_path / f / "saliency" / name).read_bytes() for f in ("typed", "listed")]
        assert maps[0] == maps[1]
