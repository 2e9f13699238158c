"""Which files of a folder are pictures: every kind that Pillow reads, by name and beginning."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from support import PROJECT, photo, run_python, write_photo

from unisal.data.picture_kinds import PLUGINS, list_files, missing_reader, picture_suffixes
from unisal.data.pictures import list_pictures, read_rgb
from unisal.errors import UserError

KINDS = [
    *("apng", "avif", "bmp", "dib", "gif", "icns", "ico", "j2k", "jfif", "jp2", "jpe"),
    *("jpeg", "jpg", "jpx", "mpo", "pcx", "pgm", "png", "pnm", "ppm", "qoi", "sgi", "tga"),
    *("tif", "tiff", "webp"),
]


def names(paths):
    return [path.name for path in paths]


def write_kind(path):
    """Write a picture of the kind that the suffix names; return False where Pillow cannot."""
    Image.init()
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        return False
    mode = "L" if path.suffix.lower() == ".pgm" else "RGB"
    Image.fromarray(photo((64, 64))).convert(mode).save(path, format=kind)
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed_in_either_case_and_read(tmp_path, kind):
    paths = [tmp_path / f"2.{kind}", tmp_path / f"10.{kind.upper()}"]
    if not all(write_kind(path) for path in paths):
        pytest.skip(f"this Pillow does not write .{kind}")
    found = list_files(tmp_path)
    assert found.pictures == paths == list_pictures(tmp_path)
    assert not found.others and not found.unreadable
    assert read_rgb(paths[0]).ndim == 3


def test_a_picture_of_another_kind_than_its_name_says_is_one(tmp_path):
    for suffix in ("webp", "gif", "bmp", "heic", "tiff"):
        content = io.BytesIO()
        Image.fromarray(photo()).save(content, "JPEG")
        (tmp_path / f"a.{suffix}").write_bytes(content.getvalue())
    assert len(list_files(tmp_path).pictures) == 5
    for path in list_files(tmp_path).pictures:
        assert read_rgb(path).shape == (60, 80, 3)


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a.pdf", "Thumbs.db", "a.psd", "a.eps", "a.h5", "a.mpg", "a.pfm", "a", "a.dat"],
)
def test_other_files_are_not_pictures_whatever_they_hold(tmp_path, name):
    write_photo(tmp_path / "b.png")
    (tmp_path / name).write_bytes((tmp_path / "b.png").read_bytes())
    assert names(list_files(tmp_path).pictures) == ["b.png"]
    assert names(list_files(tmp_path).others) == [name]


@pytest.mark.parametrize("content", [b"", b"I", b"no picture", b"8BPS\0\1", b"\0" * 100])
def test_by_its_name_alone_only_png_and_jpeg_is_a_picture(tmp_path, content):
    by_name = ["a.JPEG", "a.jpg", "a.png"]
    for name in (*by_name, *(f"b{suffix}" for suffix in picture_suffixes())):
        (tmp_path / name).write_bytes(content)
    found = list_files(tmp_path)
    certain = {"b.png", "b.jpg", "b.jpeg", *by_name}
    assert {path.name for path in found.pictures} == certain
    listed = {path.name for part in found for path in part}
    assert listed == {*by_name, *(f"b{suffix}" for suffix in picture_suffixes())}


def test_hidden_files_and_folders_are_not_counted(tmp_path):
    for name in (".DS_Store", "._a.jpg", ".a.png"):
        (tmp_path / name).touch()
    (tmp_path / "saliency").mkdir()
    (tmp_path / "folder.webp").mkdir()
    assert list_files(tmp_path) == ([], [], [])


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone cannot be read: No such file"):
        list_files(tmp_path / "gone")


FAKE_PLUGIN = """
from PIL import BmpImagePlugin, Image

def register_heif_opener():
    def accept(start):
        return start[4:12] == b"ftypheic"

    Image.register_open("HEIF", BmpImagePlugin.BmpImageFile, accept)
    Image.register_extensions("HEIF", [".heic", ".heif", ".hif"])
"""
LIST = """
import sys
from pathlib import Path
from unisal.data.picture_kinds import list_files, missing_reader
print([[path.name for path in part] for part in list_files(Path(sys.argv[1]))])
print([missing_reader(path) for path in list_files(Path(sys.argv[1])).unreadable])
"""


def test_heic_is_read_where_the_package_is_and_else_it_is_named(tmp_path):
    pictures = tmp_path / "pictures"
    write_photo(pictures / "a.png")
    (pictures / "b.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (pictures / "c.heic").write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0")  # AVIF may begin like this
    without, with_it = tmp_path / "without", tmp_path / "with"
    for folder, content in ((without, "raise ImportError"), (with_it, FAKE_PLUGIN)):
        folder.mkdir()
        (folder / "pillow_heif.py").write_text(content)

    def listed(folder):
        env = {"PYTHONPATH": f"{folder}:{PROJECT}"}
        done = run_python("-c", LIST, str(pictures), cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    files, advice = listed(without)
    assert files == "[['a.png'], ['b.HEIC', 'c.heic'], []]"
    assert advice.count("HEIC needs the package pillow-heif (pip install pillow-heif)") == 2
    files, _ = listed(with_it)
    assert files.startswith("[['a.png', 'b.HEIC'")


def test_the_message_about_a_kind_without_its_package_says_what_to_install(tmp_path):
    path = tmp_path / "a.jxl"
    path.write_bytes(b"\xff\x0a" + bytes(range(100)))
    advice = missing_reader(path)
    if advice is None:
        pytest.skip("the package is installed")
    assert advice == "JPEG XL needs the package pillow-jxl-plugin (pip install pillow-jxl-plugin)"
    with pytest.raises(UserError, match=r"a\.jxl is not a picture that can be read; JPEG XL needs"):
        read_rgb(path)


def test_the_packages_for_further_kinds_are_described_and_an_extra():
    listed = (PROJECT / "docs" / "dependencies.md").read_text()
    extras = (PROJECT / "pyproject.toml").read_text()
    for plugin in PLUGINS:
        assert f"`{plugin.package}`" in listed
        assert f'"{plugin.package}>=' in extras


def test_animated_pictures_are_read_as_their_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((32, 40, 3), 60 * i, np.uint8)) for i in range(3)]
    for kind in ("gif", "png", "webp"):
        path = tmp_path / f"a.{kind}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        assert read_rgb(path).max() <= 2, kind
    assert len(list_pictures(tmp_path)) == 3
