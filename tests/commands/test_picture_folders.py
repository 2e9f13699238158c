"""Which pictures are meant by a folder, a picture or a tree of folders, and what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import write_photo

from unisal.commands.picture_folders import find_picture_sets
from unisal.errors import UserError


def tree(root, *names):
    """Write pictures and other files."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg", ".webp"):
            write_photo(path, (8, 8))
        else:
            path.write_text("no picture")
    return root


def sets(places, recursive=False, out_dir=None):
    """Return what is found, as names below the first place."""
    places = places if isinstance(places, list) else [places]
    found, failed = find_picture_sets(places, recursive, out_dir)
    assert not failed
    root = places[0] if places[0].is_dir() else places[0].parent
    return {
        os.path.relpath(one.out, out_dir or root): [
            os.path.relpath(picture, root) for picture in one.pictures
        ]
        for one in found
    }


def test_pictures_lie_in_images_or_else_in_the_folder_itself(tmp_path):
    folder = tree(tmp_path, "10.png", "2.webp", "saliency/2.png", "overlay/2.png", "maps/a.png")
    assert sets(folder) == {".": ["2.webp", "10.png"]}
    (folder / "images").mkdir()
    assert sets(folder) == {".": ["2.webp", "10.png"]}
    tree(folder, "images/a.jpg")
    assert sets(folder) == {".": ["images/a.jpg"]}


def test_one_picture_is_predicted_beside_itself_and_knows_its_neighbours(tmp_path):
    tree(tmp_path, "a.png", "a.webp", "notes.txt")
    ((found,), failed) = find_picture_sets([tmp_path / "a.webp"], False, None)
    assert (found.pictures, found.out, failed) == ([tmp_path / "a.webp"], tmp_path, [])
    assert found.siblings == [tmp_path / "a.png", tmp_path / "a.webp"]
    assert found.name == "a"


def test_a_picture_that_is_named_may_have_any_ending(tmp_path):
    tree(tmp_path, "a.png").joinpath("a.png").rename(tmp_path / "a.dat")
    assert sets(tmp_path / "a.dat") == {".": ["a.dat"]}
    with pytest.raises(UserError, match="holds no pictures"):
        sets(tmp_path)


def test_pictures_that_a_pattern_gave_are_one_set_and_results_are_none(tmp_path):
    tree(tmp_path, "10.png", "2.png", "saliency/2.png", "overlay/2.png")
    assert sets(sorted(tmp_path.iterdir())) == {".": ["2.png", "10.png"]}


def test_the_folders_below_each_are_like_one_that_is_named(tmp_path, caplog):
    tree(
        tmp_path,
        *("1.png", "a/images/2.png", "a/b/3.png", "a/b/c/images/4.png", "x/y/z/5.webp"),
        *(".hidden/6.png", "a/saliency/2.png", "a/overlay/2.png", "saliency/1.png", "x/notes.txt"),
    )
    expected = {
        ".": ["1.png"],
        "a": ["a/images/2.png"],
        "a/b": ["a/b/3.png"],
        "a/b/c": ["a/b/c/images/4.png"],
        "x/y/z": ["x/y/z/5.webp"],
    }
    assert sets(tmp_path, recursive=True) == expected
    assert sets(tmp_path, recursive=True, out_dir=tmp_path / "out") == expected
    tree(tmp_path / "out", "a/saliency/2.png", "rest/3.png")  # of an earlier call
    assert sets(tmp_path, recursive=True, out_dir=tmp_path / "out") == expected
    assert {r.getMessage() for r in caplog.records} == {
        f"{tmp_path}: 1 file left out, no picture: {Path('x/notes.txt')}"
    }


def test_links_lead_nowhere_twice(tmp_path):
    tree(tmp_path, "in/a/1.png", "elsewhere/2.png")
    (tmp_path / "in" / "a" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "a")
    (tmp_path / "in" / "one").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "two").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "gone").symlink_to(tmp_path / "nowhere")
    assert sets(tmp_path / "in", recursive=True) == {"a": ["a/1.png"], "one": ["one/2.png"]}


def test_several_folders_have_folders_of_their_names_in_out_dir(tmp_path):
    tree(tmp_path, "a/1.png", "b/images/2.png", "c/a/3.png")
    places = [tmp_path / "a", tmp_path / "b"]
    assert set(sets(places, out_dir=tmp_path / "out")) == {"a", "b"}
    assert set(sets(places[:1], out_dir=tmp_path / "out")) == {"."}
    with pytest.raises(UserError, match="would both be written to"):
        sets([tmp_path / "a", tmp_path / "c" / "a"], out_dir=tmp_path / "out")


def test_a_folder_without_pictures_does_not_stop_the_others(tmp_path):
    tree(tmp_path, "a/1.png", "b/notes.txt")
    found, (failure,) = find_picture_sets([tmp_path / "b", tmp_path / "a"], False, None)
    assert [one.pictures for one in found] == [[tmp_path / "a" / "1.png"]]
    assert str(tmp_path / "b") in str(failure)
    with pytest.raises(UserError, match="gone does not exist"):
        find_picture_sets([tmp_path / "a", tmp_path / "gone"], False, None)


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_left_out_is_named_once_with_a_count(tmp_path, caplog, recursive):
    others = [f"{i}.txt" for i in range(1, 8)]
    tree(tmp_path, "a.png", "b.gif", *others, ".DS_Store", ".c.txt")
    (tmp_path / "b.gif").write_text("no picture")
    sets(tmp_path, recursive)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"{tmp_path}: 8 files left out, no pictures: 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, ..."
    )


@pytest.mark.parametrize("recursive", [False, True])
def test_pictures_of_a_kind_that_needs_a_package_are_named(
    tmp_path, caplog, monkeypatch, recursive
):
    monkeypatch.setattr("unisal.data.picture_kinds._register", lambda _: False)
    tree(tmp_path, "a.png", "b.heic", "c.HEIC")
    sets(tmp_path, recursive)
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}: 2 pictures left out, HEIC needs the package pillow-heif (pip install "
        "pillow-heif): b.heic, c.HEIC"
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"hold.? no pictures.*; HEIC needs the package"):
        sets(tmp_path, recursive)


@pytest.mark.parametrize("recursive", [False, True])
def test_pictures_beside_images_are_named(tmp_path, caplog, recursive):
    tree(tmp_path, "images/a.png", "b.png")
    assert sets(tmp_path, recursive) == {".": ["images/a.png"]}
    (record,) = caplog.records
    assert "1 picture left out, since there is a folder images/: b.png" in record.getMessage()


def test_a_video_file_is_sent_to_its_own_command(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    with pytest.raises(UserError, match=r"a\.mp4 is a video file; .* predict_video"):
        sets(tmp_path / "a.mp4")
