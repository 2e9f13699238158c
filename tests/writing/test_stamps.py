"""Stamps: what a file was made of goes with it, and changes nothing of what it holds."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from PIL import Image

from unisal.files import content_key, key_of
from unisal.writing.maps import (
    write_16_bit_map,
    write_density_h5,
    write_density_npz,
    write_map,
    write_overlay,
)
from unisal.writing.stamps import read_stamp, stamp, write_stamped

KEY = key_of("anything")
VALUES = np.random.default_rng(0).random((50, 70)).astype(np.float32)
RGB = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
PICTURES = [
    ("a.png", write_map, VALUES),
    ("a.PNG", write_16_bit_map, VALUES),
    ("a.jpg", write_map, VALUES),
    ("a.jpeg", write_overlay, RGB),
    ("a.png", write_overlay, RGB),
]


@pytest.mark.parametrize(("name", "write", "values"), PICTURES)
def test_a_stamped_picture_has_the_same_pixels(tmp_path, name, write, values):
    path, plain = tmp_path / name, tmp_path / f"plain_{name}"
    write(plain, values)
    write_stamped(path, KEY, lambda temporary: write(temporary, values))
    assert (read_stamp(path), read_stamp(plain)) == (KEY, None)
    with Image.open(path) as stamped, Image.open(plain) as other:
        assert (stamped.format, stamped.mode) == (other.format, other.mode)
        np.testing.assert_array_equal(np.asarray(stamped), np.asarray(other))
    with Image.open(path) as stamped:
        stamped.verify()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, plain.name])


def test_a_jpeg_without_the_usual_header_is_stamped_too(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).convert("CMYK").save(path)
    assert path.read_bytes()[2:4] != b"\xff\xe0"
    before = np.asarray(Image.open(path))
    stamp(path, KEY)
    assert read_stamp(path) == KEY
    np.testing.assert_array_equal(np.asarray(Image.open(path)), before)


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_a_stamped_file_of_densities_holds_the_same(tmp_path, name):
    path = tmp_path / name
    write = write_density_npz if name.endswith("npz") else write_density_h5
    write_stamped(path, KEY, lambda temporary: write(temporary, VALUES))
    assert read_stamp(path) == KEY
    if name.endswith("npz"):
        arrays = dict(np.load(path))
    else:
        with h5py.File(path) as file:
            arrays = {key: file[key][:] for key in file}
    assert set(arrays) == {"density"}
    np.testing.assert_array_equal(arrays["density"], VALUES)


@pytest.mark.parametrize(("name", "write", "values"), PICTURES)
def test_a_file_that_is_cut_off_has_no_stamp(tmp_path, name, write, values):
    path = tmp_path / name
    write_stamped(path, KEY, lambda temporary: write(temporary, values))
    whole = path.read_bytes()
    for n in (0, 1, 200, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        path.write_bytes(whole[:n])
        assert read_stamp(path) is None, n


def test_what_can_hold_no_stamp_is_left_alone(tmp_path):
    path = tmp_path / "a.tif"
    write_stamped(path, KEY, lambda temporary: temporary.write_bytes(b"anything"))
    assert path.read_bytes() == b"anything"
    assert read_stamp(path) is None
    assert read_stamp(tmp_path / "missing.png") is None
    (tmp_path / "b.h5").write_text("no HDF5")
    assert read_stamp(tmp_path / "b.h5") is None


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_stamped(tmp_path / "a.png", KEY, lambda _: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_a_key_differs_with_each_of_its_parts(tmp_path):
    keys = [key_of(*parts) for parts in (("a", "b"), ("b", "a"), ("a",), ("ab",), ("a", "b", ""))]
    assert len(set(keys)) == 5
    path = tmp_path / "a"
    found = []
    for content in (b"", b"a", b"\0" * (1 << 20), b"\0" * (1 << 20) + b"a"):
        path.write_bytes(content)
        found.append(content_key(path))
    assert len(set(found)) == 4
