"""Maps from files, and which files are pictures. Photographs: see tests/predict."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support import photo, write_photo

from unisal.data.pictures import list_pictures, picture_size, read_grey, read_rgb
from unisal.errors import UserError


def test_a_map_of_8_bits_is_scaled_by_255(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(levels).save(tmp_path / "map.png")
    grey = read_grey(tmp_path / "map.png")
    assert (grey.dtype, grey.shape) == (np.float32, (8, 32))
    np.testing.assert_array_equal(grey, levels.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_map_of_16_bits_is_scaled_by_65535(tmp_path, suffix):
    levels = np.array([[0, 1, 255, 256], [257, 32768, 65534, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"map.{suffix}")
    grey = read_grey(tmp_path / f"map.{suffix}")
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, levels / 65535, rtol=1e-6)
    assert grey.max() == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_a_grey_picture_in_colours_is_the_same_map(tmp_path, mode):
    levels = np.random.default_rng(0).integers(0, 256, (10, 12)).astype(np.uint8)
    Image.fromarray(levels).convert(mode).save(tmp_path / "map.png")
    np.testing.assert_allclose(read_grey(tmp_path / "map.png"), levels / 255, atol=1e-6)


def test_a_map_of_one_bit_is_zeros_and_ones(tmp_path):
    points = np.random.default_rng(0).random((10, 12)) > 0.8
    Image.fromarray(points).save(tmp_path / "fixations.png")
    assert Image.open(tmp_path / "fixations.png").mode == "1"
    np.testing.assert_array_equal(read_grey(tmp_path / "fixations.png"), points)


def test_what_was_read_can_be_written_to(tmp_path):
    write_photo(tmp_path / "a.png")
    for read in (read_grey, read_rgb):
        read(tmp_path / "a.png")[:] = 0


def test_pictures_are_listed_in_natural_order_and_nothing_else_is(tmp_path):
    pictures = ["2.jpg", "10.png", "B.JPEG", "a b.jpeg", "a.PNG", "a2.png", "a10.jpg", "é.jpg"]
    others = [".hidden.png", "notes.txt", "a.gif", "png", "a.png.bak", ".DS_Store"]
    for name in [*reversed(pictures), *others]:
        (tmp_path / name).touch()
    found = list_pictures(tmp_path)
    assert [p.name for p in found] == pictures
    assert all(p.parent == tmp_path for p in found)


def test_the_size_is_height_and_width_and_needs_the_header_alone(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(photo((300, 70))).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert picture_size(path) == (300, 70)


def test_the_size_is_that_before_turning(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo((30, 70))).save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg") == (30, 70)
    assert read_rgb(tmp_path / "a.jpg").shape == (70, 30, 3)


@pytest.mark.parametrize("read", [read_grey, read_rgb], ids=["map", "photograph"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_file_that_is_cut_off_is_named(tmp_path, read, suffix):
    path = tmp_path / f"half.{suffix}"
    write_photo(path, (200, 300))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"{path} is damaged or cut off"):
        read(path)


@pytest.mark.parametrize("read", [read_grey, read_rgb, picture_size])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"", "is not a picture that can be read"),
        (b"no picture", "is not a picture that can be read"),
        (b"\x89PNG\r\n\x1a\n", "a.png "),
        ("folder", "is a folder"),
    ],
    ids=["missing", "empty", "text", "nothing but a signature", "folder"],
)
def test_what_is_no_picture_is_named(tmp_path, read, content, said):
    path = tmp_path / "a.png"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as refused:
        read(path)
    assert str(path) in str(refused.value)
