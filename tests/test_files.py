"""A file is either the old one or wholly the new one."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from unisal.files import natural_order, whole_folder, write_atomically


def test_the_file_appears_only_once_it_is_complete(tmp_path):
    path = tmp_path / "new" / "deep" / "map.png"

    def write(temporary):
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")

    write_atomically(path, write)
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_file_is_a_hidden_neighbour_with_the_same_suffix(tmp_path):
    seen = []
    write_atomically(tmp_path / "map.JPG", seen.append)
    (temporary,) = seen
    # Beside the target, since only then the move is one step; a writer picks the format by suffix.
    assert temporary.parent == tmp_path
    assert temporary.suffix == ".JPG"
    assert temporary.name.startswith(".")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [True, False])
def test_a_failed_write_leaves_what_was_there(tmp_path, error, existed):
    path = tmp_path / "map.png"
    if existed:
        path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert [p.read_text() for p in tmp_path.iterdir()] == (["old"] if existed else [])


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "map.png"
    for text in ("first", "second"):
        write_atomically(path, lambda temporary, text=text: temporary.write_text(text))
    assert path.read_text() == "second"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_an_ordinary_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "ours", lambda temporary: temporary.write_text("x"))
        (tmp_path / "ordinary").write_text("x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_the_umask_of_the_process_is_never_touched(tmp_path, monkeypatch):
    # Other threads make files at the same time.
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask is the whole process's"))
    write_atomically(tmp_path / "file", lambda temporary: temporary.write_text("x"))
    with whole_folder(tmp_path / "folder"):
        pass


@pytest.mark.parametrize(
    "stem",
    ["x" * 251, "ü" * 125, "with space", "a.b.c", "%s{}"],
    ids=["255 bytes", "254 bytes", "space", "dots", "format"],
)
def test_any_name_that_the_file_system_takes_can_be_written(tmp_path, stem):
    path = tmp_path / f"{stem}.png"
    path.write_text("the file system takes it")
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"


# ---- folders ------------------------------------------------------------------------------


def test_a_folder_appears_only_once_it_is_complete(tmp_path):
    path = tmp_path / "new" / "images"
    with whole_folder(path) as temporary:
        (temporary / "1.png").write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent and temporary.name.startswith(".images-")
    assert [p.name for p in path.parent.iterdir()] == ["images"]
    assert [p.name for p in path.iterdir()] == ["1.png"]
    (tmp_path / "ordinary").mkdir()
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_folder_that_failed(tmp_path, error):
    def fail():
        with whole_folder(tmp_path / "images") as temporary:
            (temporary / "1.png").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


# ---- the order of names -------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["1.jpg", "2.jpg", "3.jpg", "9.jpg", "10.jpg", "11.jpg", "12.jpg", "100.jpg"],
        ["frame1.png", "frame2.png", "frame10.png"],
        ["a1b2", "a1b10", "a2b1", "a10b1"],
        ["s1e9 f2.jpg", "s1e10 f1.jpg", "s2e1 f1.jpg"],
        ["01.jpg", "1.jpg", "02.jpg", "2.jpg"],  # ties: by the name
        ["1.jpg", "1.png", "1_b.jpg", "a.jpg"],
        ["2/10.jpg", "10/2.jpg", "10/10.jpg"],
        ["a\udcff2", "a\udcff10"],  # not UTF-8
        ["x" + "9" * 200, "x1" + "0" * 200],
        ["٢.jpg", "²1.jpg"][::-1],  # other scripts' digits are text
    ],
    ids=lambda names: names[0].encode(errors="replace").decode()[:12],
)
def test_names_are_sorted_as_people_number_them(names):
    for seed in range(5):
        shuffled = random.Random(seed).sample(names, len(names))
        assert sorted(shuffled, key=natural_order) == names
        assert sorted(map(Path, shuffled), key=natural_order) == [Path(name) for name in names]


@pytest.mark.parametrize(
    "pattern",
    ["{:04d}.png", "actionclipautotrain{:05d}_00017.png", "COCO_val2014_{:012d}.jpg", "i{:03d}"],
)
def test_padded_numbers_are_in_the_order_of_the_names(pattern):
    names = [pattern.format(n) for n in random.Random(0).sample(range(1000), 200)]
    assert sorted(names, key=natural_order) == sorted(names)
