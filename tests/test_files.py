"""A file is either the old one or wholly the new one."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import av
import pytest
from support import PROJECT, fill_disk

from unisal import files
from unisal.errors import UserError
from unisal.files import (
    MAX_FAILURES,
    PlaceWatch,
    derived_name,
    from_home,
    is_place_error,
    named_place,
    natural_order,
    remove_leftovers,
    require_writable_file,
    require_writable_folder,
    whole_file,
    whole_folder,
    write_atomically,
)


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


# ---- what a killed process left -----------------------------------------------------------

LEAVE = """
import os, signal, sys
from pathlib import Path
from unisal.files import whole_file, whole_folder
with whole_file(Path(sys.argv[1])) as file, whole_folder(Path(sys.argv[2])) as folder:
    file.write_text("half")
    (folder / "1.png").write_text("half")
    if sys.argv[3] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.read()
"""


def run_writer(folder, how):
    return subprocess.Popen(
        [sys.executable, "-c", LEAVE, folder / "sub" / "map.png", folder / "sub" / "images", how],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    kept = [
        ".hidden-0123456789abcdef.png",
        ".map-0123456789abcdef",
        ".0009-abc12345.png",
        ".-",
        "map-0123456789abcdef.png",
    ]
    (tmp_path / "sub").mkdir()
    for name in kept:
        (tmp_path / "sub" / name).write_text("a user's")
        os.utime(tmp_path / "sub" / name, (0, 0))
    process = run_writer(tmp_path, "kill")
    process.communicate()
    assert len(list((tmp_path / "sub").iterdir())) == len(kept) + 2
    remove_leftovers(tmp_path)
    assert len(list((tmp_path / "sub").iterdir())) == len(kept) + 2
    remove_leftovers(tmp_path, below=True)
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == sorted(kept)


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_what_a_process_is_writing_is_not_removed(tmp_path):
    process = run_writer(tmp_path, "wait")
    assert process.stdout.readline() == "writing\n"
    found = sorted((tmp_path / "sub").iterdir())
    for path in found:
        os.utime(path, (0, 0))  # however long ago it was changed
    remove_leftovers(tmp_path / "sub")
    with whole_file(tmp_path / "sub" / "ours"):
        remove_leftovers(tmp_path / "sub")
        assert len(list((tmp_path / "sub").iterdir())) == 3
    assert set(found) < set((tmp_path / "sub").iterdir())
    process.communicate("go on")
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["images", "map.png", "ours"]


def test_on_another_machine_age_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_host", lambda: "0000")
    stack = ExitStack()
    for name in ("new", "old"):
        temporary = stack.enter_context(whole_file(tmp_path / name))
        age = 3600 if name == "new" else 25 * 3600
        os.utime(temporary, (time.time() - age,) * 2)
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert [p.name.split("-")[0] for p in tmp_path.iterdir()] == [".new"]
    for name in ("new", "old"):  # the blocks end by renaming, which would fail for "old"
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError):
        stack.close()


def test_what_is_left_of_a_folder_that_is_missing(tmp_path):
    remove_leftovers(tmp_path / "missing")
    remove_leftovers(tmp_path / "missing", below=True)


# ---- places -------------------------------------------------------------------------------


def places(tmp_path):
    """Return folders that cannot be written, each with the reason."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return {
        tmp_path / "file": f"{tmp_path / 'file'} is not a folder",
        tmp_path / "file" / "below" / "it": f"{tmp_path / 'file'} is not a folder",
        tmp_path / "broken": "is a link to something that does not exist",
        tmp_path / "broken" / "below": "is a link to something that does not exist",
        tmp_path / "loop": "symbolic links",
        tmp_path / ("x" * 256): "its name is too long",
        tmp_path / "new" / ("ü" * 128) / "below": "its name is too long",
        tmp_path / ("x" * 5000): "too long",
        Path("/dev/full"): "/dev/full is not a folder",
        Path("/dev/full/sub"): "/dev/full is not a folder",
        Path("/proc/sub"): "nothing can be created in /proc",
    }


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="places are those of Linux")
def test_a_place_that_cannot_be_written_is_named_with_the_reason(tmp_path):
    found = places(tmp_path)
    before = sorted(tmp_path.iterdir())
    for place, reason in found.items():
        with pytest.raises(UserError) as refused:
            require_writable_folder(place, "name another one with --out_dir")
        said = str(refused.value)
        assert said.startswith(f"{place} cannot be written to: ") and reason in said, place
        assert said.endswith("; name another one with --out_dir")
        with pytest.raises(UserError, match="cannot be written"):
            require_writable_file(place / "map.png")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("place", ["", "new", "new/deep/er", "x" * 255, "a%03d[1]", "a\udcff"])
def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path, place):
    require_writable_folder(tmp_path / place)
    require_writable_file(tmp_path / place / "map.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_a_file_belongs(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="it is a folder; remove it"):
        require_writable_file(tmp_path / "report.html", "remove it")
    with pytest.raises(UserError, match="its name is too long"):
        require_writable_file(tmp_path / ("x" * 256))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENODEV])
def test_what_the_system_says_is_the_reason(tmp_path, monkeypatch, number):
    def fail(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", fail)
    with pytest.raises(UserError, match=os.strerror(number)):
        require_writable_folder(tmp_path)


def test_a_full_disk_is_noticed_before_and_after(small_disk):
    with pytest.raises(OSError, match="No space left") as failed:
        write_atomically(
            small_disk / "map", lambda temporary: temporary.write_bytes(bytes(1 << 24))
        )
    assert is_place_error(failed.value)
    assert failed.value.filename == str(small_disk / "map")  # and not that of a temporary file
    watch = PlaceWatch()
    assert not watch.is_lost(small_disk, failed.value)  # what was half-written is gone
    fill_disk(small_disk)
    assert watch.is_lost(small_disk, failed.value)
    assert not watch.is_lost(small_disk, ValueError("a damaged picture"))
    with pytest.raises(UserError, match="No space left on device; make room"):
        require_writable_folder(small_disk / "new", "make room")
    assert [p.name for p in small_disk.iterdir()] == ["full"]


def test_a_place_where_one_thing_after_the_other_fails_is_given_up(tmp_path):
    watch, error = PlaceWatch(), OSError(errno.EFBIG, "too large")
    for _ in range(2):
        assert not any(watch.is_lost(tmp_path, error) for _ in range(MAX_FAILURES - 1))
        assert not watch.is_lost(tmp_path, None)
    assert [watch.is_lost(tmp_path, error) for _ in range(MAX_FAILURES)][-1]


def test_an_error_names_the_file_that_was_to_be_written(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").touch()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder", tmp_path / "file"):
        make = whole_file if path.is_dir() else whole_folder
        with pytest.raises(OSError, match=path.name) as failed, make(path):
            pass
        assert named_place(failed.value) == str(path)
    with pytest.raises(OSError, match="other") as failed, whole_file(tmp_path / "map"):
        (tmp_path / "other" / "x").read_text()
    assert named_place(failed.value) == str(tmp_path / "other" / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_errors_that_are_about_a_place():
    for error in (OSError(28, "full"), PermissionError(13, "no"), av.FFmpegError(28, "full")):
        assert is_place_error(error)
        wrapped = UserError("could not be written")
        wrapped.__cause__ = error
        assert is_place_error(wrapped)
    for error in (None, ValueError("x"), OSError("cut off"), OSError(errno.EPIPE, "pipe")):
        assert not is_place_error(error)


def test_an_error_that_replaces_another_one_is_not_about_its_place():
    def read():
        try:
            Path("missing").read_text()
        except FileNotFoundError:
            raise UserError("an input is missing") from None

    with pytest.raises(UserError) as replaced:
        read()
    assert not is_place_error(replaced.value)


# ---- names --------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["clip", "x" * 243, "clips[1] %03d", "a\udcff", "a\nb", "~x"])
def test_a_name_that_fits_is_the_stem_and_the_ending(stem):
    assert derived_name(stem, "_overlay.mp4") == f"{stem}_overlay.mp4"


@pytest.mark.parametrize("stem", ["x" * 251, "ü" * 125, "x" + "日" * 84, "\udcff" * 250])
@pytest.mark.parametrize("ending", ["_overlay.mp4", "_features_before_upsampling.h5"])
def test_a_name_that_would_be_too_long_is_shortened(tmp_path, stem, ending):
    name = derived_name(stem, ending)
    assert 250 <= len(os.fsencode(name)) <= 255
    assert name.endswith(ending) and stem.startswith(name[:60])
    assert name == derived_name(stem, ending)
    other = derived_name(stem[:-1] + "y", ending)
    assert name != other and len(os.fsencode(other)) <= 255
    write_atomically(tmp_path / name, lambda temporary: temporary.write_text("x"))
    with whole_folder(tmp_path / name[:-4]) as temporary:
        (temporary / "1.png").touch()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, name[:-4]])


@pytest.mark.parametrize("name", ["a." + "b" * 250, ".x", "a\udcff.png", "x" * 60 + "ü.png"])
def test_temporary_names_fit_whatever_the_name_is(tmp_path, name):
    with whole_file(tmp_path / name) as temporary, whole_folder(tmp_path / f"{name}.d"[-255:]):
        assert temporary.parent == tmp_path
        os.fsencode(temporary)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_tilde_is_the_home_folder_unless_something_is_called_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert from_home("~") == str(tmp_path / "home")
    assert from_home("~/maps") == str(tmp_path / "home" / "maps")
    for same in ("maps", "/a/~/b", "a~", "~no_such_user/maps", "~x", ""):
        assert from_home(same) == same
    if os.name == "posix":
        import pwd

        user = pwd.getpwuid(os.getuid())
        assert from_home(f"~{user.pw_name}/maps") == f"{user.pw_dir}/maps"
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "maps").touch()
    assert from_home("~/maps") == "~/maps"


def by_tokens(name):
    """-> the natural order as it is said: numbers by value where their digits stand."""
    tokens = re.findall(r"[0-9]+|[^0-9]", name)
    return [("0", int(t)) if t[0] in "0123456789" else (t, 0) for t in tokens], (name,)


def test_the_natural_order_of_names_of_any_kind():
    draw = random.Random(0)
    letters = "0012 9/:a-.\x01é٣\ud800"
    names = {"".join(draw.choices(letters, k=draw.randint(1, 7))) for _ in range(3000)}
    names = [name for name in names if "/" not in name and name != "."]
    assert sorted(names, key=natural_order) == sorted(names, key=by_tokens)


@pytest.mark.parametrize("make", [files.whole_file, files.whole_folder])
def test_whatever_the_moment_of_a_signal_nothing_is_left(tmp_path, make):
    """Signals end the block between any two lines: they are tried one after the other."""
    place, left, n_interrupted = tmp_path / "place", 0, 0
    while n_interrupted == left:
        left += 1
        to_go = left

        def trace(frame, event, _):
            nonlocal to_go
            if frame.f_code.co_filename == files.__file__:
                to_go -= event == "line"
                if to_go == 0:
                    raise KeyboardInterrupt
                return trace
            return None

        sys.settrace(trace)
        try:
            with make(place) as temporary:
                (temporary / "a" if temporary.is_dir() else temporary).write_bytes(b"all")
        except KeyboardInterrupt:
            n_interrupted += 1
        finally:
            sys.settrace(None)
        assert [path for path in tmp_path.iterdir() if path != place] == []
        if place.is_dir():
            assert [path.read_bytes() for path in place.iterdir()] == [b"all"]
            shutil.rmtree(place)
        elif place.exists():
            assert place.read_bytes() == b"all"
            place.unlink()
    assert n_interrupted > 10
